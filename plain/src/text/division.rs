//! Where texts may be divided before they are encoded: between its parts, tokens do not depend on each other.

use tokenizers::{ModelWrapper, NormalizerWrapper, PreTokenizerWrapper, Tokenizer};

/// How a tokenizer comes to the words that it asks its model for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Division {
    /// BERT's: at white space and around every punctuation mark; all letters may become small.
    Bert { lowercase: bool },
    /// GPT-2's regular expression: a word has the space before it.
    ByteLevel,
}

impl Division {
    /// Nothing where the tokenizer may look across the places divided at.
    pub fn of(tokenizer: &Tokenizer) -> Option<Self> {
        let normalizer = tokenizer.get_normalizer();
        let mut added = tokenizer.get_added_tokens_decoder().into_values();
        if added.any(|token| token.normalized && normalizer.is_some()) {
            return None;
        }
        match (normalizer, tokenizer.get_pre_tokenizer()?, tokenizer.get_model()) {
            (
                Some(NormalizerWrapper::BertNormalizer(bert)),
                PreTokenizerWrapper::BertPreTokenizer(_),
                ModelWrapper::WordPiece(_),
            ) => Some(Self::Bert { lowercase: bert.lowercase }),
            (None, PreTokenizerWrapper::ByteLevel(split), ModelWrapper::BPE(model))
                if split.use_regex && !split.add_prefix_space && model.dropout.is_none() =>
            {
                Some(Self::ByteLevel)
            }
            _ => None,
        }
    }

    /// The parts of a text, in order.
    pub fn chunks(self, text: &str) -> impl Iterator<Item = &str> {
        let mut rest = text;
        std::iter::from_fn(move || {
            let bytes = rest.as_bytes();
            let end = (1..bytes.len()).find(|&i| self.begins_chunk(&bytes[i..]));
            let (chunk, after) = rest.split_at(end.unwrap_or(bytes.len()));
            rest = after;
            (!chunk.is_empty()).then_some(chunk)
        })
    }

    fn begins_chunk(self, bytes: &[u8]) -> bool {
        match self {
            Self::Bert { .. } => is_white(bytes[0]),
            // Of several spaces the last goes with the word; what white space beyond ASCII does is left to the library.
            Self::ByteLevel => bytes[0] == b' ' && bytes.get(1).is_some_and(u8::is_ascii_graphic),
        }
    }

    /// What a chunk is without white space that stands for nothing.
    pub fn trimmed(self, chunk: &str) -> &str {
        match self {
            Self::Bert { .. } => {
                chunk.trim_start_matches(|c: char| c.is_ascii() && is_white(c as u8))
            }
            Self::ByteLevel => chunk,
        }
    }

    /// Whether `word` knows the words of a chunk: those of printable ASCII.
    pub fn is_plain(self, chunk: &str) -> bool {
        let bytes = chunk.as_bytes();
        let spaced = self == Self::ByteLevel && bytes.len() > 1 && bytes[0] == b' ';
        bytes[usize::from(spaced)..].iter().all(u8::is_ascii_graphic)
    }

    /// The length of the first word of a plain chunk that is not empty.
    pub fn word(self, chunk: &[u8]) -> usize {
        match self {
            Self::Bert { .. } => run(chunk, u8::is_ascii_alphanumeric).max(1),
            Self::ByteLevel => contraction(chunk).unwrap_or_else(|| {
                let space = usize::from(chunk[0] == b' ');
                let kind = kind(chunk[space]);
                space + run(&chunk[space..], |byte| self::kind(*byte) == kind)
            }),
        }
    }
}

/// White space to BERT wherever it stands, and ASCII.
fn is_white(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

fn run(bytes: &[u8], holds: impl Fn(&u8) -> bool) -> usize {
    bytes.iter().take_while(|byte| holds(byte)).count()
}

/// Letters, digits, others.
fn kind(byte: u8) -> u8 {
    if byte.is_ascii_alphabetic() { 0 } else { 1 + u8::from(!byte.is_ascii_digit()) }
}

fn contraction(chunk: &[u8]) -> Option<usize> {
    let ends: [&[u8]; 7] = [b"'s", b"'t", b"'re", b"'ve", b"'m", b"'ll", b"'d"];
    ends.iter().find(|end| chunk.starts_with(end)).map(|end| end.len())
}
