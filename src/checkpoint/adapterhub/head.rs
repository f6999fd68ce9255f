//! Heads in AdapterHub's files: layers by number, which are those of transformers' heads.

use anyhow::{Result, ensure};
use serde_json::{Map, Value, json};

use crate::flags::fault;
use crate::model::Architecture;
use crate::nn::Activation;
use crate::shard::Problem;

/// What a head is for, and what its layers are in our model, by their number there.
#[derive(Debug)]
pub struct Head {
    kind: Kind,
    layers: Vec<(usize, &'static str)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// One class, or a number.
    Classification,
    MultiLabel,
    MaskedLm,
}

impl Kind {
    /// The library's name of it.
    fn name(self) -> &'static str {
        match self {
            Self::Classification => "classification",
            Self::MultiLabel => "multilabel_classification",
            Self::MaskedLm => "masked_lm",
        }
    }

    /// The kind of this name; what is not known is not read.
    fn find(name: &Value) -> Self {
        let kinds = [Self::MultiLabel, Self::MaskedLm].into_iter();
        kinds.into_iter().find(|kind| *name == kind.name()).unwrap_or(Self::Classification)
    }
}

impl Head {
    /// The head of a model with this config.
    pub fn of(config: &Value, architecture: &dyn Architecture) -> Self {
        let class = config["architectures"][0].as_str().unwrap_or_default();
        let kind = match config["problem_type"].as_str().and_then(Problem::find) {
            _ if class.ends_with("ForMaskedLM") => Kind::MaskedLm,
            Some(Problem::MultiLabel) => Kind::MultiLabel,
            _ => Kind::Classification,
        };
        Self::new(kind, architecture)
    }

    /// The first of a classifier's two layers is BERT's pooler, RoBERTa's and DistilBERT's dense layer: the same maths.
    fn new(kind: Kind, architecture: &dyn Architecture) -> Self {
        let (classes, mlm) = (architecture.class_names(), architecture.mlm_names());
        let layers = match kind {
            Kind::Classification | Kind::MultiLabel => {
                vec![(1, classes.dense), (4, classes.output)]
            }
            Kind::MaskedLm => vec![(0, mlm.dense), (2, mlm.norm), (3, mlm.decoder), (3, mlm.bias)],
        };
        Self { kind, layers }
    }

    /// From the keys of a head's config. Fails on a head that transformers does not give this model.
    pub fn read(head: &Value, architecture: &dyn Architecture) -> Result<Self> {
        let is = |key: &str, value: Value| -> Result<()> {
            let cure = "a head as transformers gives this model is";
            let cause = format!("a head whose `{key}` is {} is not read", head[key]);
            ensure!(head[key] == value, fault(cause, cure));
            Ok(())
        };
        let kind = Kind::find(&head["head_type"]);
        is("head_type", json!(kind.name()))?;
        is("bias", json!(true))?;
        let pooled = head["use_pooler"] == json!(true);
        if pooled {
            let classes = architecture.class_names();
            is("use_pooler", json!(classes.dense.contains("pooler")))?;
            is("layers", json!(1))?;
            return Ok(Self { kind, layers: vec![(1, classes.output)] });
        }
        is("layers", json!(2))?;
        is("activation_function", json!(activation(kind, architecture)))?;
        if kind == Kind::MaskedLm {
            is("layer_norm", json!(true))?;
        }
        Ok(Self::new(kind, architecture))
    }

    /// Our name of a tensor of the head, by its name behind `heads.NAME.`.
    pub fn ours(&self, tensor: &str) -> Option<String> {
        let (number, rest) = tensor.split_once('.')?;
        let number: usize = number.parse().ok()?;
        // Of the last layer of a masked language model, weight and bias lie apart.
        let mut named = self.layers.iter().filter(|(own, _)| *own == number).map(|(_, name)| name);
        let name = if rest == "bias" { named.next_back() } else { named.next() };
        Some(format!("{}.{rest}", name?))
    }

    /// The library's name of a tensor of ours behind `heads.NAME.`, if it is one of the head.
    pub fn theirs(&self, tensor: &str) -> Option<String> {
        let (place, rest) = tensor.rsplit_once('.')?;
        let (number, _) = self.layers.iter().find(|(_, name)| *name == place)?;
        Some(format!("{number}.{rest}"))
    }

    /// The library's config of it.
    pub fn config(&self, config: &Value, architecture: &dyn Architecture) -> Value {
        let mut head = json!({
            "activation_function": activation(self.kind, architecture),
            "bias": true,
            "layers": 2,
        });
        let sizes = architecture.sizes();
        let own = match self.kind {
            Kind::Classification | Kind::MultiLabel => json!({
                "dropout_prob": null,
                "head_type": self.kind.name(),
                "label2id": config["label2id"],
                "num_labels": config["label2id"].as_object().map_or(0, Map::len),
                "use_pooler": false,
            }),
            Kind::MaskedLm => json!({
                "embedding_size": sizes.hidden,
                "head_type": self.kind.name(),
                "label2id": null,
                "layer_norm": true,
                "shift_labels": false,
                "vocab_size": sizes.vocab,
            }),
        };
        if let (Some(head), Value::Object(own)) = (head.as_object_mut(), own) {
            head.extend(own);
        }
        head.sort_all_objects();
        head
    }
}

fn activation(kind: Kind, architecture: &dyn Architecture) -> Activation {
    match kind {
        Kind::Classification | Kind::MultiLabel => architecture.class_names().activation,
        Kind::MaskedLm => architecture.mlm_names().activation,
    }
}

/// What a model's config says of the classes.
pub fn classes(head: &Value) -> Value {
    let pairs = head["label2id"].as_object().into_iter().flatten();
    let names: Map<_, _> = pairs.map(|(name, id)| (id.to_string(), json!(name))).collect();
    let named = (!names.is_empty()).then_some(names);
    let several = Kind::find(&head["head_type"]) == Kind::MultiLabel;
    json!({"id2label": named, "problem_type": several.then(|| Problem::MultiLabel.name())})
}
