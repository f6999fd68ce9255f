//! Layers with no opinion. Everything but attention runs over `[tokens, hidden]`: there is no padding here.

mod attention;
mod batch;
mod layers;
mod scope;

pub use attention::attention;
pub use batch::{Batch, Ids};
pub use layers::{Activation, AddNorm, Affine, Dropout, Embedding, LayerNorm, Linear};
pub use scope::{Branch, Delta, Everything, Init, Parameter, Parameters, Peft, Scope};
