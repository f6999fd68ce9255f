# text -> tokens -> adapted encoder -> classifier -> scores -> results.md
#
#   make demo                     a fresh machine: LibTorch, the programs, the whole chain on the built-in sample
#   make test                     a fresh machine: everything that must be green
#   make tapt                     AG News: baseline against TAPT, one table
#   make baseline | dapt | tapt | dapt+tapt | lora | all
#   make compare ARMS='base/full base/lora'     any arms, ENCODER/METHOD
#   make tapt HIDDEN=300          the page also draws hidden states of so many test texts, before and after
#   make tapt HIDDEN=300 KEEP=3   and of the models of the last so many evaluations in between
#   make s0 | s1 | s2 | s3 | s4   five small studies done again, docs/recipes.md; AS_PUBLISHED=1: with their mistakes
#   make tapt MODEL=DIR_OR_HUB_ID TASKS='ag_news rotten_tomatoes' SEEDS='0 1 2' DATA=DIR
#   make -n tapt                  the commands, to paste
#   make install [PREFIX=/usr/local]            programs, man pages, completions; make uninstall
#   make -j4 GPU='flock .gpu'     prepare in parallel, train one at a time
#
# A run is named by its path, TASK/ENCODER/METHOD/SEED. Recipes are prerequisites: change one, and what it made is
# made again. Programs are not: building anew must not train for days again.

MODEL   ?= distilroberta-base
TASKS   ?= ag_news
SEEDS   ?= 0 1 2
DATA    ?= $(or $(TAPT_DATA),data)
# Where runs go; runs of other models, limits or recipes go elsewhere below it.
OUT     ?= runs
RECIPES ?= recipes
RESULTS ?= results.md
# The same with pictures: one page for a browser, beside it.
PAGE    := $(basename $(RESULTS)).html
# A quick look: at most LIMIT rows of every split but test, TEST_LIMIT of test, STEPS optimizer steps a fine-tuning,
# MLM_STEPS a pretraining.
LIMIT      ?=
TEST_LIMIT ?=
STEPS      ?=
MLM_STEPS  ?= $(STEPS)
# Test texts whose hidden states the page draws, of the first seed; none where it is empty.
HIDDEN     ?=
# Models of the last so many evaluations that a fine-tuning of the first seed leaves beside its own, for the same page.
KEEP       ?=
# An encoder without an MLM head (a sentence encoder, say) gets a new one; the trainer says so.
HEAD    ?= --new-head
GPU     ?=
BIN     ?= target/release
# Where `make install` puts the programs.
PREFIX  ?= /usr/local

# OpenMP threads that wait for long in a loop starve each other where anything else runs.
export GOMP_SPINCOUNT ?= 10000

SHELL       := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
MAKEFLAGS   += --no-builtin-rules
.DELETE_ON_ERROR:
.SECONDARY:
.SECONDEXPANSION:
.PHONY: help s0 s1 s2 s3 s4 build install uninstall demo test bench bench-gpu clean FORCE
help:
	@sed -n '2,/^$$/s/^# \{0,1\}//p' Makefile

# Whether two lists are the same. Make 4.3 leaves some files the newline at their end, hence `strip`.
same  = $(call equal,$(strip $1),$(strip $2))
equal = $(and $(findstring x$1x,x$2x),$(findstring x$2x,x$1x))

# ---- what a goal compares: ENCODER/METHOD, always with the baseline

arms.baseline  := base/full
arms.lora      := base/full base/lora
arms.dapt      := base/full dapt/full
arms.tapt      := base/full tapt/full
arms.dapt+tapt := base/full dapt+tapt/full
arms.compare    = $(ARMS)
arms.all       := base/full base/lora dapt/full tapt/full dapt+tapt/full
goals          := baseline lora dapt tapt dapt+tapt compare all
asked          := $(filter $(goals),$(MAKECMDGOALS))

# ---- one folder for what cannot be mixed

comma := ,
name  := $(notdir $(MODEL:%/=%))
W     := $(OUT)/$(name)$(LIMIT:%=-limit%)$(TEST_LIMIT:%=-test%)$(STEPS:%=-steps%)$(if $(filter-out $(STEPS),$(MLM_STEPS)),-mlm$(MLM_STEPS))$(patsubst recipes%,%,$(subst /,-,$(filter-out recipes,$(RECIPES))))
arms   = $(sort $(foreach goal,$(asked),$(arms.$(goal))))
scores = $(foreach t,$(TASKS),$(foreach a,$(arms),$(foreach s,$(SEEDS),$W/$t/$a/$s/score.json)))

# Where the model lies: a model of the hub, org/name[@revision], is made a directory of links to the hub's cache.
BASE := $(if $(wildcard $(MODEL))$(filter $(OUT)/demo/base,$(MODEL)),$(MODEL),$(OUT)/models/$(subst /,--,$(MODEL)))

ifneq ($(and $(asked),$(wildcard $(MODEL))),)
ifeq ($(wildcard $(MODEL)/model.safetensors)$(filter $(OUT)/demo/base,$(MODEL)),)
$(error MODEL=$(MODEL) has no model.safetensors: give the directory of a model, as Hugging Face lays it out)
endif
endif

# Two models of one name, or two folders of data, must not share runs.
known := $(file <$W/from)
from  := $(MODEL) $(DATA)
ifneq ($(and $(asked),$(known),$(if $(call same,$(known),$(from)),,differs)),)
$(error $W holds runs of MODEL and DATA $(known); give OUT=DIR)
endif

# The splits to train on, to choose weights by (none: the last are kept) and to score, and what TAPT reads. A folder of
# recipes may say otherwise; also what it compares, and by which rules of its own.
TRAIN  := train
CHOOSE := validation
SCORE  := test
TEXTS   = $(TRAIN)
-include $(wildcard $(RECIPES)/study.mk)

# ---- programs

build: scripts/libtorch
	scripts/libtorch
	cargo build --release

install:
	@BIN='$(BIN)' scripts/install '$(PREFIX)'

uninstall:
	@scripts/install --remove '$(PREFIX)'

# ---- a model of the hub

ifneq ($(BASE),$(MODEL))
$(BASE)/tokenizer.json $(BASE)/model.safetensors &:
	$(BIN)/fetch $(MODEL) -o $(BASE)
endif

# ---- tokens

# In a stem like TASK/ENCODER/METHOD/SEED, the parts by number.
part = $(word $1,$(subst /, ,$*))

# A task is a data set, or DATASET@FORM where prep-DATASET@FORM.args says another way to read it; a split may have a
# recipe of its own, too. A domain corpus may be any data set.
data    = $(firstword $(subst @, ,$(call part,1)))
reading = $(firstword $(wildcard $(foreach i,1 2,$(RECIPES)/prep-$(call part,$i).args)) $(RECIPES)/prep.args)
files   = $(wildcard $(DATA)/$(if $(filter domain,$(call part,2)),*,$(data))/*)
limit   = $(if $(filter test,$(call part,2)),$(TEST_LIMIT),$(LIMIT))
prep    = $(BIN)/prep $(data) --split $(call part,2) @$(reading) $(limit:%=--limit %) --data $(DATA)

$W/tok/%.tok: $$(reading) $(BASE)/tokenizer.json $$(files)
	@mkdir -p $(@D) && echo '$(from)' > $W/from
	$(prep) --tokenizer $(BASE) -o $@

# ---- encoders: one `encoder.NAME` and one rule for every way to adapt

encoder.base      = $(BASE)
encoder.dapt      = $W/$1/dapt
encoder.tapt      = $W/$1/tapt
encoder.dapt+tapt = $W/$1/dapt+tapt

pretrain = $(GPU) $(BIN)/pretrain @$(RECIPES)/$1.args $(HEAD) $(MLM_STEPS:%=--steps %) --model $2 -o $(@D) $3

$W/%/dapt/model.safetensors: $W/tok/%/domain.tok $(RECIPES)/dapt.args $(BASE)/model.safetensors
	$(call pretrain,dapt,$(BASE),$<)

$W/%/tapt/model.safetensors: $W/tok/%/$(TEXTS).tok $(RECIPES)/tapt.args $(BASE)/model.safetensors
	$(call pretrain,tapt,$(BASE),$<)

$W/%/dapt+tapt/model.safetensors: $W/tok/%/$(TEXTS).tok $(RECIPES)/tapt.args $W/%/dapt/model.safetensors
	$(call pretrain,tapt,$W/$*/dapt,$<)

# ---- runs: one rule for every task, encoder, method and seed

encoder = $(call encoder.$(call part,2),$(call part,1),$(call part,4))
split   = $W/tok/$(call part,1)/$1.tok
recipe  = $(RECIPES)/$(call part,3).args

# The method is in the recipe. An encoder that is an adapter, of `method.ENCODER`, goes on as what it is.
given  = $(patsubst --method=%,%,$(filter --method=%,$(subst --method ,--method=,$(file <$(recipe)))))
own    = $(method.$(call part,2))
method = $(or $(own),$(lastword $(given)),full)

# The last file a method writes is what make waits for: peft's, unless it is one of these.
weights         = $(or $(weights.$(method)),adapter_model.safetensors)
weights.full    := model.safetensors
weights.head    := model.safetensors
weights.top     := model.safetensors
weights.bitfit  := model.safetensors
weights.adapter := adapter.safetensors

chosen   = $(if $(CHOOSE),$(call split,$(CHOOSE)))
keep     = $(if $(filter $(firstword $(SEEDS)),$(call part,4)),$(KEEP:%= --keep %))
finetune = $(GPU) $(BIN)/finetune @$(recipe) $(STEPS:%=--steps %)$(keep) --seed $(call part,4) --model $(encoder) --train $(call split,$(TRAIN)) $(chosen:%=--eval %) -o $(@D)
inputs   = $$(encoder)/$$(if $$(own),$$(weights),model.safetensors) $$(call split,$(TRAIN)) $$(chosen) $$(recipe)

$W/%/model.safetensors: $(inputs)
	$(finetune)

$W/%/adapter_model.safetensors: $(inputs)
	$(finetune)

$W/%/adapter.safetensors: $(inputs)
	$(finetune)

# Baselines of what was trained on; of what has probabilities also the temperature of what weights were chosen on, if that
# is not scored.
scaled = $(addprefix --temperature-from ,$(if $(filter-out $(SCORE),$(CHOOSE)),$(chosen)))
learnt = --train $(call split,$(TRAIN)) $(if $(filter --regression,$(file <$(reading))),,$(scaled))

$W/%/score.json: $W/%/$$(weights) $$(call split,$(SCORE))
	$(GPU) $(BIN)/evaluate $(@D) $(call split,$(SCORE)) $(learnt) -p $(@D)/predictions.jsonl > $@.partial
	@mv $@.partial $@

# ---- hidden states: TASK/ENCODER before fine-tuning, TASK/ENCODER/METHOD/SEED after; in both, of models kept on the way

looked = $(if $(call part,4),$(@D),$(call encoder.$(call part,2),$(call part,1),$(firstword $(SEEDS))))
its    = $(looked)/$(if $(call part,4)$(own),$(weights),model.safetensors)
own-reading = $(firstword $(wildcard $(foreach i,$* $(SCORE),$(RECIPES)/prep-$i.args)) $(RECIPES)/prep.args)
hidden = $(if $(HIDDEN),$(foreach t,$(TASKS),$(foreach a,$(arms),$W/$t/$(firstword $(subst /, ,$a))/hidden.safetensors $W/$t/$a/$(firstword $(SEEDS))/hidden.safetensors)))

states = $(GPU) $(BIN)/embed $1 $< --layer all --pool mean -o $2

$W/tok/%/hidden-$(HIDDEN).tok: $W/tok/%/$(SCORE).tok
	$(BIN)/prep $(data) --split $(SCORE) @$(own-reading) --limit $(HIDDEN) --data $(DATA) --tokenizer $(BASE) -o $@

$W/%/hidden.safetensors: $W/tok/$$(call part,1)/hidden-$(HIDDEN).tok $$(its)
	@mkdir -p $(@D)
	for step in $(@D)/step-*/step.json; do test ! -e $$step || $(call states,$${step%/*},$${step%/*}/$(@F)); done
	$(call states,$(looked),$@)

# ---- the table

# Other tasks, seeds or arms than last time, or no pictures yet: the table is made again, and the page with it.
table := $W/table.md
pictures = $W/page.html $(hidden)
missing  = $(filter-out $(wildcard $(pictures)),$(pictures))
stale   := $(if $(asked),$(if $(and $(if $(missing),,whole),$(call same,$(scores),$(file <$W/table.list))),,FORCE))

title := $(MODEL)$(LIMIT:%=$(comma) at most % rows a split)$(TEST_LIMIT:%=$(comma) % of test)$(STEPS:%=$(comma) % steps of fine-tuning)$(MLM_STEPS:%=$(comma) % of pretraining).
title += $(if $(filter sample,$(TASKS)),The sample is a demonstration: its words are made up.)

.PHONY: $(goals)
$(goals): $(RESULTS)

ifneq ($(asked),)
# Every model and folder has its table; this is the one of the last goal.
$(RESULTS): $(table) FORCE
	@cmp -s $< $@ || cp $< $@
	@cmp -s $W/page.html $(PAGE) || cp $W/page.html $(PAGE)

# A table without its list is of unknown runs, so the list goes first and comes last.
$(table): $(scores) $(sort $(hidden)) $(stale)
	@rm -f $W/table.list
	$(BIN)/report $(scores) --title '$(title)' --markdown $@.partial --html $W/page.html
	@mv $@.partial $@ && echo '$(scores)' > $W/table.list
endif

# ---- studies done again: a table for each of their models, unless MODEL is given, then what they published

s0:    models := distilroberta-base
s1 s4: models := roberta-base
s2:    models := bert-base-uncased distilbert-base-uncased roberta-base
s3:    models := bert-base-cased

wanted := $(if $(filter file,$(origin MODEL)),,$(MODEL))
folder = recipes/$@$(if $(AS_PUBLISHED),/as-published)
tables = $(foreach model,$(or $(wanted),$(models)),$(OUT)/$@-$(notdir $(model:%/=%)).md)

define study
+$(MAKE) --no-print-directory compare MODEL=$1 RECIPES=$(folder) RESULTS=$(OUT)/$@-$(notdir $(1:%/=%)).md

endef

s0 s1 s2 s3 s4:
	@test -e $(folder)/study.mk || { echo "$(folder)/study.mk is not there: docs/recipes.md says why" >&2; exit 2; }
	$(foreach model,$(or $(wanted),$(models)),$(call study,$(model)))
	cat $(tables) recipes/$@/published.md > $(RESULTS)

# ---- the demonstration: a base from scratch, then every arm

demo: build
	$(MAKE) --no-print-directory all MODEL=$(OUT)/demo/base TASKS=sample RECIPES=recipes/demo
	@echo 'The table is in $(RESULTS); $(PAGE) shows it with pictures, open it in a browser.'

$(OUT)/demo/base/tokenizer.json: recipes/demo/tokenizer.args
	$(BIN)/prep sample --split general @$< -o $(@D)

$(OUT)/demo/base.tok: $(OUT)/demo/base/tokenizer.json recipes/demo/prep.args
	$(BIN)/prep sample --split general @recipes/demo/prep.args --tokenizer $(<D) -o $@

$(OUT)/demo/base/model.safetensors: $(OUT)/demo/base.tok recipes/demo/base.args recipes/demo/config.json
	$(GPU) $(BIN)/pretrain @recipes/demo/base.args --from-scratch recipes/demo/config.json --tokenizer $(@D) -o $(@D) $<

# ---- checks

test:
	scripts/libtorch full
	scripts/test

bench: build
	scripts/libtorch full
	scripts/bench-peers
	scripts/bench
	scripts/bench-data

# On a machine with an NVIDIA card: MODEL is a directory, SHARD a labelled token shard of its tokenizer.
bench-gpu: build
	scripts/libtorch full
	scripts/bench-peers
	scripts/gpu-check $(MODEL) $(SHARD)

clean:
	rm -rf $(OUT) $(RESULTS) $(PAGE)
