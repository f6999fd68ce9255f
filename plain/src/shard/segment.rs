//! One segment, checked whole before anything in it is used.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use anyhow::{Context, Result, ensure};
use memmap2::Mmap;
use safetensors::Dtype;
use safetensors::tensor::Metadata;
use serde_json::Value;

use super::columns::Column;
use super::header::{self, Header, Meta};
use super::ints::{Ints, u64_at, width};
use super::masking::MaskedBy;
use super::problem::{Problem, Targets};
use super::tensors::Tensors;
use crate::flags::fault;

/// Where the bytes of a segment live.
#[derive(Debug)]
pub enum Bytes {
    Mapped(Arc<Mmap>, Range<usize>),
    Owned(Vec<u8>),
}

impl AsRef<[u8]> for Bytes {
    fn as_ref(&self) -> &[u8] {
        match self {
            Bytes::Mapped(map, range) => &map[range.clone()],
            Bytes::Owned(bytes) => bytes,
        }
    }
}

/// One validated segment; nothing is copied out of its bytes.
#[derive(Debug)]
pub struct Segment {
    bytes: Bytes,
    meta: Meta,
    width: usize,
    len: usize,
    tokens: Range<usize>,
    offsets: Range<usize>,
    second: Option<Range<usize>>,
    labels: Option<Targets>,
    words: Range<usize>,
    rows: Range<usize>,
    texts: Option<Range<usize>>,
    /// Which of `texts` each sequence was made of, once it has been asked for.
    places: OnceLock<Option<Vec<u32>>>,
    masked: Option<(Range<usize>, Range<usize>)>,
}

/// One sequence of a segment.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    pub tokens: Ints<'a>,
    /// Where the second text of a pair begins.
    pub second: Option<usize>,
    /// The class, an index into the segment's label names.
    pub label: Option<usize>,
    pub row: u64,
    /// Hashes of its text, and of the second text of a pair, where the shard tells which they are.
    pub texts: Option<(u64, Option<u64>)>,
    /// Positions to predict, counted from the start of the *segment*, u32 each.
    masked: Ints<'a>,
    /// The ids that stood there.
    pub targets: Ints<'a>,
    start: usize,
    words: &'a [u8],
}

impl<'a> View<'a> {
    /// Positions to predict, counted from the start of the sequence.
    pub fn masked(&self) -> impl Iterator<Item = usize> + 'a {
        let start = self.start;
        self.masked.iter().map(move |at| at as usize - start)
    }

    /// Whether token `t` of the sequence begins a word.
    pub fn begins_word(&self, t: usize) -> bool {
        let t = self.start + t;
        self.words[t / 8] >> (t % 8) & 1 == 1
    }
}

impl Segment {
    /// Length in bytes of the header at the front of `head` (8 bytes), refused beyond safetensors' own limit.
    pub fn header_len(head: [u8; 8]) -> Result<usize> {
        const LIMIT: u64 = 100_000_000;
        let len = u64::from_le_bytes(head);
        match len <= LIMIT {
            true => Ok(len as usize),
            false => Err(fault(
                format!(
                    "not a token shard (its header would have {len} bytes; the limit is {LIMIT})"
                ),
                "prep makes one of text",
            )),
        }
    }

    /// Parses a header and says how many bytes of tensors follow it.
    pub fn parse_header(json: &[u8]) -> Result<(Metadata, usize)> {
        header::check_names(json).context("not a token shard")?;
        let layout: Metadata = serde_json::from_slice(json).context("not a token shard")?;
        let len = layout.data_len();
        Ok((layout, len))
    }

    /// Checks `layout` of the tensors in `bytes[data..]`, dtypes and shapes, but nothing that is in them: only `check`
    /// makes it a segment that can be used.
    pub(super) fn declared(bytes: Bytes, data: usize, layout: &Metadata) -> Result<Self> {
        let none = Default::default();
        let meta = Meta::from_map(layout.metadata().as_ref().unwrap_or(&none))?;
        let width = width(meta.header.vocab_size);
        let id = if width == 2 { Dtype::U16 } else { Dtype::U32 };
        let tensors = Tensors { layout, data };
        let (tokens, t) = tensors.get("tokens", id)?;
        let (offsets, ends) = tensors.get("offsets", Dtype::U64)?;
        ensure!(ends > 0, "tensor `offsets` is empty");
        let len = ends - 1;
        let masked = match meta.masked {
            None => None,
            Some(_) => {
                let (masked, m) = tensors.get("masked", Dtype::U32)?;
                Some((masked, tensors.sized("targets", id, m)?))
            }
        };
        Ok(Self {
            width,
            len,
            tokens,
            offsets,
            second: tensors.optional("second", Dtype::U16, len)?,
            labels: Targets::find(&tensors, len)?,
            words: tensors.sized("words", Dtype::U8, t.div_ceil(8))?,
            rows: tensors.sized("rows", Dtype::U64, len)?,
            texts: tensors.any("texts", Dtype::U64)?,
            places: OnceLock::new(),
            masked,
            meta,
            bytes,
        })
    }

    /// The first `n` sequences alone, as declared: what comes after them is not looked at.
    pub(super) fn narrowed(mut self, n: usize) -> Self {
        if n >= self.len {
            return self;
        }
        let t = self.tokens().len().min(u64_at(self.at(&self.offsets), n) as usize);
        if let Some((masked, targets)) = self.masked.clone() {
            // As many as can be in order below t, and one more where they are not.
            let positions = Ints::new(self.at(&masked), 4).iter().take(t + 1);
            let m = positions.take_while(|&at| (at as usize) < t).count();
            self.masked = Some((first(&masked, m * 4), first(&targets, m * self.width)));
        }
        self.len = n;
        self.offsets = first(&self.offsets, (n + 1) * 8);
        self.tokens = first(&self.tokens, t * self.width);
        self.words = first(&self.words, t.div_ceil(8));
        self.rows = first(&self.rows, n * 8);
        self.labels = self.labels.map(|labels| labels.narrowed(n));
        self.second = self.second.map(|second| first(&second, n * 2));
        self
    }

    /// Checks all that is in the tensors: offsets, ids, labels, masked positions.
    pub(super) fn check(&self) -> Result<()> {
        let (offsets, t) = (self.at(&self.offsets), self.tokens().len());
        let mut last = 0;
        for i in 0..=self.len {
            let next = u64_at(offsets, i);
            let follows = if i == 0 { next == 0 } else { next > last };
            ensure!(follows, "tensor `offsets`: entry {i} does not follow the one before it");
            last = next;
        }
        ensure!(last == t as u64, "tensor `offsets` ends at {last}, but there are {t} tokens");
        let vocab = self.meta.header.vocab_size;
        let special = &self.meta.header.special;
        check_ids("metadata `special`", special.all.iter().copied(), vocab)?;
        check_ids(
            "metadata `special`",
            [special.cls, special.sep, special.pad].into_iter(),
            vocab,
        )?;
        check_ids("metadata `special`", special.mask.into_iter().chain(special.unk), vocab)?;
        check_ids("tensor `tokens`", self.ids(&self.tokens).iter(), vocab)?;
        self.check_masked(t, vocab)?;
        self.check_rows()
    }

    fn check_masked(&self, t: usize, vocab: u32) -> Result<()> {
        let Some((masked, targets)) = &self.masked else { return Ok(()) };
        let mut next = 0;
        for at in Ints::new(self.at(masked), 4).iter() {
            let at = at as usize;
            ensure!(
                at >= next && at < t,
                "tensor `masked`: position {at} is out of order or range"
            );
            next = at + 1;
        }
        check_ids("tensor `targets`", self.ids(targets).iter(), vocab)
    }

    fn check_rows(&self) -> Result<()> {
        for i in 0..self.len {
            let view = self.view(i);
            if let Some(second) = view.second {
                ensure!(
                    second <= view.tokens.len(),
                    "tensor `second`: entry {i} is past its sequence"
                );
            }
        }
        let names = self.labels().len();
        self.labels.as_ref().map_or(Ok(()), |labels| labels.check(self.bytes(), self.len, names))
    }

    /// Number of sequences.
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn header(&self) -> &Header {
        &self.meta.header
    }

    pub fn masked_by(&self) -> Option<&MaskedBy> {
        self.meta.masked.as_ref()
    }

    /// Names of the classes; empty without labels.
    pub fn labels(&self) -> &[String] {
        self.meta.labels.as_deref().unwrap_or_default()
    }

    pub fn is_labelled(&self) -> bool {
        self.labels.is_some()
    }

    /// What its labels are; classes where it has none.
    pub fn problem(&self) -> Problem {
        self.labels.as_ref().map_or_else(Problem::default, |labels| labels.problem)
    }

    /// The numbers of sequence `i`'s label; none where it has one class, or no label.
    pub fn numbers(&self, i: usize) -> impl Iterator<Item = f32> {
        self.labels.iter().flat_map(move |labels| labels.numbers(self.bytes(), i))
    }

    /// The label of sequence `i` as JSON: the name of its class, a list of names, or a number.
    pub fn label(&self, i: usize) -> Value {
        self.labels.as_ref().map_or(Value::Null, |l| l.to_json(self.bytes(), i, self.labels()))
    }

    pub fn is_pairs(&self) -> bool {
        self.second.is_some()
    }

    /// Hashes of the texts it was made of, if it says.
    pub fn texts(&self) -> Option<impl Iterator<Item = u64>> {
        let bytes = self.at(self.texts.as_ref()?);
        Some((0..bytes.len() / 8).map(move |i| u64_at(bytes, i)))
    }

    /// Every token of the segment.
    pub fn tokens(&self) -> Ints<'_> {
        self.ids(&self.tokens)
    }

    /// Number of masked positions.
    pub fn masked_len(&self) -> usize {
        self.masked.as_ref().map_or(0, |(masked, _)| masked.len() / 4)
    }

    /// The whole blob, as it lies in the file.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.as_ref()
    }

    /// Where sequence `i` begins and ends within the segment, in tokens.
    pub fn range(&self, i: usize) -> Range<usize> {
        let offsets = self.at(&self.offsets);
        u64_at(offsets, i) as usize..u64_at(offsets, i + 1) as usize
    }

    /// Sequence `i`. Panics beyond `len`.
    pub fn view(&self, i: usize) -> View<'_> {
        let range = self.range(i);
        let (masked, targets) = self.masked_in(&range);
        View {
            tokens: self.tokens().slice(range.start, range.end),
            second: self.second.as_ref().map(|at| Ints::new(self.at(at), 2).get(i) as usize),
            label: self.labels.as_ref().and_then(|labels| labels.class(self.bytes(), i)),
            row: self.row(i),
            texts: self.texts_of(i),
            masked,
            targets,
            start: range.start,
            words: self.at(&self.words),
        }
    }

    /// The hashes of the text, or the pair of texts, sequence `i` was made of.
    fn texts_of(&self, i: usize) -> Option<(u64, Option<u64>)> {
        let bytes = self.at(self.texts.as_ref()?);
        let each = if self.is_pairs() { 2 } else { 1 };
        let place = self.places.get_or_init(|| self.places(bytes.len() / 8 / each)).as_ref()?[i];
        let hash = |at: usize| u64_at(bytes, place as usize * each + at);
        Some((hash(0), (each == 2).then(|| hash(1))))
    }

    /// The place of each sequence's text among `texts`: they are in the order of the rows. Nothing where sequences have
    /// several texts, or a text has no sequence.
    fn places(&self, texts: usize) -> Option<Vec<u32>> {
        let rows = self.at(&self.rows);
        let next = |place: &mut u32, i: usize| {
            *place += u32::from(i > 0 && u64_at(rows, i) != u64_at(rows, i - 1));
            Some(*place)
        };
        let places: Vec<u32> = (0..self.len).scan(0, next).collect();
        let all = places.last().map_or(0, |last| *last as usize + 1) == texts;
        (all && !self.meta.header.join).then_some(places)
    }

    /// The row of sequence `i`. Panics beyond `len`.
    pub fn row(&self, i: usize) -> u64 {
        u64_at(self.at(&self.rows), i)
    }

    fn masked_in(&self, range: &Range<usize>) -> (Ints<'_>, Ints<'_>) {
        let Some((masked, targets)) = &self.masked else {
            return (Ints::new(&[], 4), Ints::new(&[], self.width));
        };
        let masked = Ints::new(self.at(masked), 4);
        let from = partition_point(masked, range.start);
        let to = partition_point(masked, range.end);
        (masked.slice(from, to), self.ids(targets).slice(from, to))
    }

    pub(super) fn words(&self) -> &[u8] {
        self.at(&self.words)
    }

    /// The tensors that masking leaves as they are, with their shapes: name, dtype, shape, bytes.
    pub(super) fn kept(&self) -> Vec<Column<'_>> {
        let mut kept = vec![("offsets", Dtype::U64, vec![self.len + 1], self.at(&self.offsets))];
        if let Some(second) = &self.second {
            kept.push(("second", Dtype::U16, vec![self.len], self.at(second)));
        }
        kept.extend(self.labels.iter().map(|labels| labels.column(self.bytes(), self.len)));
        kept.push(("words", Dtype::U8, vec![self.words.len()], self.words()));
        kept.push(("rows", Dtype::U64, vec![self.len], self.at(&self.rows)));
        if let Some(texts) = &self.texts {
            kept.push(("texts", Dtype::U64, vec![texts.len() / 8], self.at(texts)));
        }
        kept
    }

    pub(super) fn meta(&self) -> &Meta {
        &self.meta
    }

    fn at(&self, range: &Range<usize>) -> &[u8] {
        &self.bytes.as_ref()[range.clone()]
    }

    fn ids(&self, range: &Range<usize>) -> Ints<'_> {
        Ints::new(self.at(range), self.width)
    }
}

fn first(range: &Range<usize>, bytes: usize) -> Range<usize> {
    range.start..range.end.min(range.start + bytes)
}

fn partition_point(sorted: Ints<'_>, bound: usize) -> usize {
    let (mut low, mut high) = (0, sorted.len());
    while low < high {
        let middle = (low + high) / 2;
        if (sorted.get(middle) as usize) < bound { low = middle + 1 } else { high = middle }
    }
    low
}

fn check_ids(what: &str, ids: impl Iterator<Item = u32>, vocab: u32) -> Result<()> {
    let largest = ids.fold(0, u32::max);
    ensure!(largest < vocab, "{what}: id {largest} in a vocabulary of {vocab}");
    Ok(())
}
