//! What tensors are called: one canonical name each, whatever an older or barer file says.

use std::collections::BTreeMap;

use tch::Tensor;

/// Parts of a bare encoder, which a file may hold without the model's prefix.
const BARE: [&str; 4] = ["embeddings.", "encoder.", "pooler.", "transformer."];

/// Tensors that belong to a head some program may have no use for.
const HEADS: [&str; 9] = [
    "cls.",
    "lm_head.",
    "classifier.",
    "pre_classifier.",
    "vocab_transform.",
    "vocab_layer_norm.",
    "vocab_projector.",
    "qa_outputs.",
    "score.",
];

/// Canonical names: with the prefix, `weight` and `bias` for `gamma` and `beta`, no position ids.
pub fn canonical(tensors: BTreeMap<String, Tensor>, prefix: &str) -> BTreeMap<String, Tensor> {
    let named = tensors.into_iter().map(|(name, tensor)| (rename(&name, prefix), tensor));
    named.filter(|(name, _)| !name.ends_with("embeddings.position_ids")).collect()
}

fn rename(name: &str, prefix: &str) -> String {
    let name = name.strip_prefix("module.").unwrap_or(name);
    let name = match name.strip_suffix("LayerNorm.gamma") {
        Some(front) => format!("{front}LayerNorm.weight"),
        None => match name.strip_suffix("LayerNorm.beta") {
            Some(front) => format!("{front}LayerNorm.bias"),
            None => name.to_owned(),
        },
    };
    match BARE.iter().any(|part| name.starts_with(part)) {
        true => format!("{prefix}.{name}"),
        false => name,
    }
}

/// Where there is no output layer of a classifier, takes `score` for it, which has no bias, as some call it.
pub fn only_score(tensors: &mut BTreeMap<String, Tensor>, output: &str) {
    let name = |part: &str| format!("{output}.{part}");
    if tensors.contains_key(&name("weight")) {
        return;
    }
    if let Some(weight) = tensors.remove("score.weight") {
        let none = || Tensor::zeros([weight.size()[0]], (weight.kind(), weight.device()));
        let bias = tensors.remove("score.bias").unwrap_or_else(none);
        tensors.insert(name("bias"), bias);
        tensors.insert(name("weight"), weight);
    }
}

/// BERT's pooler: part of the encoder, used by classifiers alone.
pub fn is_pooler(name: &str) -> bool {
    name.contains(".pooler.")
}

/// Whether a tensor that was not asked for is a head of another task, or the pooler.
pub fn is_other_head(name: &str) -> bool {
    let is_added = name.contains(".lora_") || name.ends_with(".ia3_l");
    !is_added && (is_pooler(name) || HEADS.iter().any(|head| name.starts_with(head)))
}

#[cfg(test)]
mod tests {
    use super::rename;

    #[test]
    fn old_and_bare_names() {
        let renamed = |name| rename(name, "bert");
        assert_eq!(renamed("embeddings.LayerNorm.gamma"), "bert.embeddings.LayerNorm.weight");
        assert_eq!(renamed("bert.encoder.x.LayerNorm.beta"), "bert.encoder.x.LayerNorm.bias");
        assert_eq!(renamed("module.cls.predictions.bias"), "cls.predictions.bias");
        assert_eq!(renamed("classifier.weight"), "classifier.weight");
    }
}
