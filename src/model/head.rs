//! Heads, generic over the encoder: masked language model and sequence classifier.

use tch::{Kind, Reduction, Tensor};

use super::{Architecture, Encoder, Sizes};
use crate::native;
use crate::nn::{Activation, Batch, Dropout, Init, LayerNorm, Linear, Scope, Turned};

/// What an architecture calls the parts of its MLM head.
#[derive(Debug, Clone, Copy)]
pub struct MlmNames {
    pub dense: &'static str,
    pub norm: &'static str,
    /// The place of the decoder's `bias`.
    pub bias: &'static str,
    /// The place of the decoder's `weight`, where a checkpoint has one of its own.
    pub decoder: &'static str,
    pub activation: Activation,
}

/// What an architecture calls the parts of its classification head: dense, activation, output.
#[derive(Debug, Clone, Copy)]
pub struct ClassNames {
    pub dense: &'static str,
    pub output: &'static str,
    pub activation: Activation,
    pub dropout_before: f64,
    pub dropout: f64,
}

/// An encoder and a decoder over the vocabulary, tied to the word embeddings unless the checkpoint unties it.
#[derive(Debug)]
pub struct MaskedLm {
    pub encoder: Box<dyn Encoder>,
    dense: Linear,
    norm: LayerNorm,
    activation: Activation,
    untied: Option<Tensor>,
    turned: Turned,
    bias: Tensor,
}

impl MaskedLm {
    pub fn new(root: &Scope, architecture: &dyn Architecture) -> Self {
        let (names, sizes) = (architecture.mlm_names(), architecture.sizes());
        let encoder = architecture.encoder(&root.at(architecture.prefix()));
        let untied = untied(&root.at(names.decoder), &encoder.words().weight, &sizes);
        // transformers writes the one bias under both names.
        root.at(names.decoder).alias("bias", &root.at(names.bias));
        let head = |name: &str| given_or_trained(root.at(name));
        let norm = LayerNorm::new(&head(names.norm), sizes.hidden, sizes.eps);
        Self {
            dense: Linear::new(&head(names.dense), sizes.hidden, sizes.hidden, sizes.init_std),
            norm,
            activation: names.activation,
            untied,
            turned: root.at(names.decoder).turned("weight"),
            bias: root.at(names.bias).parameter("bias", &[sizes.vocab], Init::Zeros),
            encoder,
        }
    }

    /// Whether the decoder is the word embeddings.
    pub fn is_tied(&self) -> bool {
        self.untied.is_none()
    }

    /// Logits `[masked, vocab]` at the token positions `masked`, and at no others: nothing else is asked for.
    pub fn logits(&self, batch: &Batch, masked: &Tensor, train: bool) -> Tensor {
        let xs = self.encoder.forward_at(masked, batch, train);
        let xs = self.activation.forward(&self.dense.forward(&xs, train));
        let xs = self.norm.forward(&xs);
        let decoder = match &self.untied {
            Some(own) => self.turned.of(own, xs.kind()),
            None => self.encoder.words().rows(xs.kind()),
        };
        native::linear(&xs, &decoder, Some(&self.bias))
    }
}

/// A decoder of its own, if the config unties it or the checkpoint gives one that differs from the embeddings.
fn untied(decoder: &Scope, embeddings: &Tensor, sizes: &Sizes) -> Option<Tensor> {
    let own = || decoder.parameter("weight", &embeddings.size(), Init::Normal(sizes.init_std));
    if !sizes.tied {
        return Some(own());
    }
    let given = decoder.peek("weight")?;
    let given = given.to_device(embeddings.device()).totype(Kind::Float);
    if given.size() == embeddings.size() && given.equal(embeddings) {
        decoder.discard("weight");
        return None;
    }
    Some(own())
}

/// Parts a checkpoint gives follow the plan; parts that start at random always train.
fn given_or_trained(scope: Scope) -> Scope {
    if scope.is_given("weight") { scope } else { scope.trained() }
}

/// An encoder and a classifier on the first token.
#[derive(Debug)]
pub struct SequenceClassifier {
    pub encoder: Box<dyn Encoder>,
    before: Dropout,
    dense: Linear,
    activation: Activation,
    dropout: Dropout,
    output: Linear,
}

impl SequenceClassifier {
    pub fn new(root: &Scope, architecture: &dyn Architecture, classes: i64) -> Self {
        let (names, sizes) = (architecture.class_names(), architecture.sizes());
        let encoder = architecture.encoder(&root.at(architecture.prefix()));
        // BERT's pooler belongs to the encoder where the checkpoint has it, and to the new head where not.
        let dense = match names.dense.starts_with(architecture.prefix()) {
            true => given_or_trained(root.at(names.dense)),
            false => root.at(names.dense).trained(),
        };
        let output = root.at(names.output).trained();
        Self {
            encoder,
            before: Dropout(names.dropout_before),
            dense: Linear::new(&dense, sizes.hidden, sizes.hidden, sizes.init_std),
            activation: names.activation,
            dropout: Dropout(names.dropout),
            output: Linear::new(&output, sizes.hidden, classes, sizes.init_std),
        }
    }

    /// Logits `[batch, classes]`.
    pub fn logits(&self, batch: &Batch, train: bool) -> Tensor {
        // A few rows: in the numbers of its weights.
        let xs = self.encoder.first(batch, train).to_kind(self.output.kind());
        let xs = self.dense.forward(&self.before.forward(xs, train), train);
        let xs = self.dropout.forward(self.activation.forward(&xs), train);
        self.output.forward(&xs, train)
    }
}

/// Cross-entropy in nats, added up over rows: logits `[rows, classes]`, classes `[rows]`.
pub fn cross_entropy(logits: &Tensor, targets: &Tensor) -> Tensor {
    if native::takes(logits) {
        return native::cross_entropy(logits, targets);
    }
    let none: Option<Tensor> = None;
    logits.totype(Kind::Float).cross_entropy_loss(targets, none, Reduction::Sum, -100, 0.0)
}
