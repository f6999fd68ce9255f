//! Sequences in windows: the next one is read and encoded while the model has the one before.

use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::sync::mpsc::SyncSender;

use anyhow::{Context, Result, anyhow, ensure};

use crate::checkpoint::{Checkpoint, Sentence, fits};
use crate::data::{Ahead, Arriving};
use crate::model::Sizes;
use crate::nn::Ids;
use crate::shard::{Problem, Segments, Shard, agree};
use crate::text::Tokenizer;
use crate::train::{ids, unlabelled};

/// Sequences of a window at most.
const SEQUENCES: usize = 4096;
/// Tokens of a window at most, unless one sequence has more.
const TOKENS: usize = 1 << 17;
/// Numbers that the vectors of a window are made of, 128 MiB.
const NUMBERS: usize = 1 << 25;

/// Sequences that are sorted by length together, as they stand in the input.
#[derive(Default)]
pub struct Window {
    pub ids: Vec<Ids>,
    /// Row of each.
    pub rows: Vec<u64>,
    /// Class of each, where it has one.
    pub labels: Vec<Option<String>>,
}

/// How large a window may be.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    sequences: usize,
    tokens: usize,
}

impl Limits {
    /// Where a vector has `each` numbers, and a sequence, where it is `pooled`, one vector, else one for each token.
    pub fn new(each: usize, pooled: bool) -> Self {
        let vectors = (NUMBERS / each.max(1)).max(1);
        match pooled {
            true => Self { sequences: SEQUENCES.min(vectors), tokens: TOKENS },
            false => Self { sequences: SEQUENCES, tokens: TOKENS.min(vectors) },
        }
    }
}

/// Where sequences come from.
pub enum Source {
    /// A shard that is read from a file.
    Shard(Shard),
    /// A shard that is read from a pipe, segment by segment.
    Segments { name: String, segments: Segments, dir: PathBuf, sizes: Sizes },
    /// Lines of text.
    Lines { lines: Arriving, tokenizer: Box<Tokenizer>, sentence: Sentence, patient: bool },
}

impl Source {
    /// The sequences of a shard that must fit the model of `checkpoint`; `name` is what errors call it.
    pub fn shard(name: String, segments: Segments, checkpoint: &Checkpoint) -> Result<Self> {
        let (dir, sizes) = (checkpoint.dir.clone(), checkpoint.sizes());
        if !segments.is_mapped() {
            return Ok(Self::Segments { name, segments, dir, sizes });
        }
        let shard = Shard::read([segments])?;
        check(&shard, &dir, &sizes).context(name)?;
        Ok(Self::Shard(shard))
    }

    /// Lines from a reader, made ready as `sentence` says. Windows are filled where `patient`; else one has what is there.
    pub fn lines(
        (name, reader): (&str, impl BufRead + Send + 'static),
        (tokenizer, sentence): (Tokenizer, Sentence),
        patient: bool,
    ) -> Self {
        let (lines, tokenizer) = (Arriving::new(name, reader), Box::new(tokenizer));
        Self::Lines { lines, tokenizer, sentence, patient }
    }

    /// How many sequences there are, where that is known.
    pub fn count(&self) -> Option<usize> {
        if let Self::Shard(shard) = self { Some(shard.len()) } else { None }
    }

    fn give(self, filling: &mut Filling) -> Result<()> {
        match self {
            Self::Shard(shard) => filling.add_shard(&shard),
            Self::Segments { name, segments, dir, sizes } => {
                let check = |shard: &Shard| check(shard, &dir, &sizes);
                filling.add_segments(&name, segments, check)
            }
            Self::Lines { lines, tokenizer, sentence, patient } => {
                filling.add_lines(lines, (&tokenizer, &sentence), patient)
            }
        }
    }
}

fn check(shard: &Shard, dir: &Path, sizes: &Sizes) -> Result<()> {
    ensure!(!shard.is_masked(), "it is masked; vectors are made of the texts as they are");
    fits(shard, dir, sizes)
}

/// The windows of a source, in order. What is whole comes before an error.
pub struct Windows(Ahead<Result<Window>>);

impl Windows {
    /// Begins to read and to encode.
    pub fn new(source: Source, limits: Limits) -> Self {
        // Of no length: one window waits while the model has another.
        Self(Ahead::new(0, move |send| {
            let mut filling = Filling { limits, window: Window::default(), tokens: 0, send };
            let given = source.give(&mut filling);
            let given = filling.hand_on().and(given);
            // Where the model has stopped, it knows why.
            given.or_else(|error| filling.send.send(Err(error))).unwrap_or_default();
        }))
    }
}

impl Iterator for Windows {
    type Item = Result<Window>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next()
    }
}

/// A window that is being filled.
struct Filling {
    limits: Limits,
    window: Window,
    tokens: usize,
    send: SyncSender<Result<Window>>,
}

impl Filling {
    fn add(&mut self, ids: Ids, row: u64, label: Option<String>) -> Result<()> {
        let (sequences, tokens) = (self.window.ids.len() + 1, self.tokens + ids.tokens.len());
        if sequences > self.limits.sequences || tokens > self.limits.tokens {
            self.hand_on()?;
        }
        self.tokens += ids.tokens.len();
        self.window.ids.push(ids);
        self.window.rows.push(row);
        self.window.labels.push(label);
        Ok(())
    }

    /// Hands the window on, if there is anything in it.
    fn hand_on(&mut self) -> Result<()> {
        if self.window.ids.is_empty() {
            return Ok(());
        }
        self.tokens = 0;
        let window = std::mem::take(&mut self.window);
        self.send.send(Ok(window)).map_err(|_| anyhow!("nobody takes the windows"))
    }

    fn add_shard(&mut self, shard: &Shard) -> Result<()> {
        // Of several labels a text, or of numbers, there is no class.
        let has_class = shard.is_labelled() && shard.problem() == Problem::Classes;
        (0..shard.len()).try_for_each(|i| {
            let (view, label) = (shard.view(i), has_class.then(|| shard.label(i)).flatten());
            self.add(unlabelled(&view).ids, view.row, label)
        })
    }

    fn add_segments(
        &mut self,
        name: &str,
        segments: Segments,
        check: impl Fn(&Shard) -> Result<()>,
    ) -> Result<()> {
        let mut first: Option<Shard> = None;
        for segment in segments {
            let segment = segment?;
            let known = first.iter().try_for_each(|first| agree(&first.segments()[0], &segment));
            known.with_context(|| name.to_owned())?;
            let shard = Shard::from_segments(vec![segment])?;
            check(&shard).with_context(|| name.to_owned())?;
            self.add_shard(&shard)?;
            first.get_or_insert(shard);
        }
        Ok(())
    }

    fn add_lines(
        &mut self,
        mut lines: Arriving,
        (tokenizer, sentence): (&Tokenizer, &Sentence),
        patient: bool,
    ) -> Result<()> {
        let mut row = 0;
        loop {
            let (some, end) = match patient {
                true => lines.full(SEQUENCES),
                false => lines.some(SEQUENCES),
            };
            let some = some.into_iter().map(|line| {
                (sentence.prepare(line.text), line.pair.map(|pair| sentence.cased(pair)))
            });
            let some: Vec<(String, Option<String>)> = some.collect();
            let texts: Vec<_> = some.iter().map(|(a, b)| (a.as_str(), b.as_deref())).collect();
            for pieces in tokenizer.pieces_batch(&texts)? {
                pieces.into_iter().try_for_each(|piece| self.add(ids(piece), row, None))?;
                row += 1;
            }
            if !patient {
                self.hand_on()?;
            }
            if let Some(end) = end {
                return end;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;
    use std::sync::OnceLock;

    use proptest::prelude::*;

    use super::*;
    use crate::text::{Kind, train};

    fn tokenizer() -> Tokenizer {
        static DIR: OnceLock<tempfile::TempDir> = OnceLock::new();
        let dir = DIR.get_or_init(|| {
            let dir = tempfile::tempdir().unwrap();
            let texts = ["rain on the hill", "a goal by night"].repeat(9).into_iter();
            let texts = texts.map(|text| Ok(text.to_owned()));
            train(Kind::Wordpiece, 100, texts, dir.path()).unwrap();
            dir
        });
        Tokenizer::open(dir.path()).unwrap()
    }

    fn windows(text: String, limits: Limits, patient: bool) -> Vec<Result<Window>> {
        let own = (tokenizer(), Sentence::default());
        let source = Source::lines(("f", Cursor::new(text)), own, patient);
        Windows::new(source, limits).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn windows_are_the_input_in_order(
            words in prop::collection::vec(0..30usize, 0..300),
            sequences in 1..40usize,
            tokens in 1..200usize,
            patient: bool,
        ) {
            let texts: Vec<String> = words.iter().map(|&n| "rain ".repeat(n)).collect();
            let all: String = texts.iter().map(|text| format!("{text}\n")).collect();
            let limits = Limits { sequences, tokens };
            let (mut ids, mut rows) = (Vec::new(), Vec::new());
            for window in windows(all, limits, patient) {
                let window = window.unwrap();
                let held: usize = window.ids.iter().map(|ids| ids.tokens.len()).sum();
                prop_assert!(window.ids.len() <= sequences && !window.ids.is_empty());
                prop_assert!(held <= tokens || window.ids.len() == 1);
                ids.extend(window.ids);
                rows.extend(window.rows);
            }
            prop_assert_eq!(rows, (0..words.len() as u64).collect::<Vec<_>>());
            let tokenizer = tokenizer();
            for (text, ids) in texts.iter().zip(ids) {
                prop_assert_eq!(ids.tokens, tokenizer.encode((text, None)).unwrap().tokens);
            }
        }
    }

    #[test]
    fn what_is_whole_comes_before_an_error() {
        let limits = Limits { sequences: 2, tokens: 100 };
        let text = "rain\nhill\ngoal\n{\"pair\": 1}\nrain\n".to_owned();
        let found: Vec<_> = windows(text, limits, true);
        let sizes: Vec<_> = found.iter().flatten().map(|window| window.ids.len()).collect();
        assert_eq!((sizes, found.len()), (vec![2, 1], 3));
        let error = format!("{:#}", found[2].as_ref().err().unwrap());
        assert!(error.starts_with("f:4: "), "{error}");
    }

    #[test]
    fn vectors_bound_a_window_too() {
        let base = Limits::new(768, true);
        assert_eq!((base.sequences, base.tokens), (SEQUENCES, TOKENS));
        assert_eq!(Limits::new(13 * 768, true).sequences, NUMBERS / (13 * 768));
        assert_eq!(Limits::new(768, false).tokens, NUMBERS / 768);
    }
}
