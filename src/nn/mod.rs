//! Layers with no opinion. Everything but attention runs over `[tokens, hidden]`: there is no padding here.

mod attention;
mod batch;
mod layers;
mod plan;
mod scope;

pub use attention::Attention;
pub use batch::{Batch, Chosen, Ids};
pub use layers::{Activation, AddNorm, Affine, Dropout, Embedding, LayerNorm, Linear, Turned};
pub use plan::{Branch, Delta, Everything, Nothing, Peft, Prefix, Table};
pub use scope::{Init, Parameter, Parameters, Scope};
