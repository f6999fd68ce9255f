TASKS := medical_questions_pairs
ARMS  := base/head base/full tapt/head tapt/full
TEXTS := questions

$W/tok/%.jsonl: $$(reading) $$(files)
	@mkdir -p $(@D)
	$(prep) --jsonl -o $@

# Each question of the training pairs, by itself and once.
$(TASKS:%=$W/tok/%/questions.tok): $W/tok/%/questions.tok: $W/tok/%/$(TRAIN).jsonl $(BASE)/tokenizer.json
	for column in text pair; do $(BIN)/prep $< --text $$column --label none --jsonl -q; done | $(BIN)/prep - --dedup --tokenizer $(BASE) -o $@
