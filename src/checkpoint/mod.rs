//! Hugging Face directories in and out, and adapters beside them. Names are audited both ways.

mod adapter;
mod adapterhub;
mod checked;
mod durable;
mod fits;
mod kept;
mod load;
mod names;
mod save;
mod sentence;
mod tensors;
mod texts;
mod weights;
mod words;

pub use adapter::{Adapter, save_trained};
pub use checked::checked;
pub use fits::{fits, tokenizer, tokenizer_digest};
pub use kept::{Stamp, keep};
pub use load::{Checkpoint, Head, Loaded};
pub use save::{class_config, copy_tokenizer, mlm_config, save_model, untied_config};
pub use sentence::Sentence;
pub use tensors::{read_about, read_tensors, write_tensors};
pub use texts::{read_texts, write_texts};
pub use words::added_words;
