//! The half of tapt that needs no tensors: programs built from it alone link no LibTorch and start in milliseconds.

/// What a classifier must beat: naive Bayes over tokens.
pub mod baseline;
/// The process: arguments and recipes, streams, exit codes, signals, progress.
pub mod cli;
/// Data sets in: catalog, readers, splits, the built-in sample.
pub mod data;
/// Texts to a token shard.
pub mod encode;
/// Kinds of numbers that flags take; the error with a cure, which every room may fail with.
pub mod flags;
/// Models and data sets of the Hugging Face hub, in the cache that Python's huggingface_hub keeps.
pub mod hub;
/// What classes and another model say of a model's layers: probes, silhouettes, CKA.
pub mod layers;
/// Plain numbers, no tensors: confusion, F1, calibration, intervals, tests.
pub mod metrics;
/// What a file is: header, counts, first records.
pub mod peek;
/// Files of predictions, two of them compared.
pub mod predictions;
/// Randomness named by what it is for, so that nothing needs a generator's state.
pub mod random;
/// Scores and logs to tables.
pub mod report;
/// The token shard: segments, reader, writer; masking.
pub mod shard;
/// A look before training: statistics, comparison, selection.
pub mod survey;
/// TensorBoard's event files.
pub mod tensorboard;
/// Documents to ids; training a tokenizer.
pub mod text;
/// TF-IDF weights of token ids.
pub mod tfidf;
