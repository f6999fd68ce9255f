"""Between our batches (sequences back to back, no padding) and transformers' (right-padded, with a mask)."""

import torch
from torch.nn.utils.rnn import pad_sequence


def pad(ids, lengths, second, config):
    """Model inputs for sequences laid end to end in `ids`; `second` is where a second text begins, 0 for none."""
    rows = torch.split(ids, lengths.tolist())
    padded = pad_sequence(rows, batch_first=True, padding_value=config.pad_token_id)
    place = torch.arange(padded.shape[1])
    mask = place < lengths[:, None]
    inputs = {"input_ids": padded, "attention_mask": mask.long()}
    # RoBERTa has one token type and DistilBERT none: neither is told about the second text.
    if getattr(config, "type_vocab_size", 1) > 1:
        in_second = (second[:, None] > 0) & (place >= second[:, None])
        inputs["token_type_ids"] = (in_second & mask).long()
    return inputs


def unpad(values, inputs):
    """[batch, length, …] to [tokens, …], in order, without the padding."""
    return values[inputs["attention_mask"].bool()]


def class_logits(model, inputs):
    """A classifier's logits. Of a prefix on RoBERTa peft takes the cache for the pooled state and fails: here is what
    it says it does, step by step."""
    config = getattr(model, "active_peft_config", None)
    if getattr(config, "peft_type", None) != "PREFIX_TUNING" or model.base_model.config.model_type != "roberta":
        return model(**inputs).logits
    rows, mask = inputs["attention_mask"].shape[0], inputs["attention_mask"]
    mask = torch.cat((mask.new_ones(rows, config.num_virtual_tokens), mask), dim=1)
    past = model.get_prompt(rows)
    hidden = model.base_model.roberta(input_ids=inputs["input_ids"], attention_mask=mask, past_key_values=past)[0]
    return model.base_model.classifier(hidden)
