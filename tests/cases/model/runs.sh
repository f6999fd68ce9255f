mkdir -p runs/ag/base/full/0
cat > runs/ag/base/full/0/score.json <<'END'
{"event": "score", "scores": {"accuracy": 0.5, "macro_f1": 0.4}}
END
mkdir -p runs/ag/base/full/0
cat > runs/ag/base/full/0/log.jsonl <<'END'
{"event": "run", "trained": 1234567, "config": {"model": "hub"}}
{"event": "step", "step": 1, "loss": 1}
{"event": "done", "seconds": 10}
END
mkdir -p runs/ag/base/full/1
cat > runs/ag/base/full/1/score.json <<'END'
{"event": "score", "scores": {"accuracy": 0.6, "macro_f1": 0.5}}
END
mkdir -p runs/ag/base/full/1
cat > runs/ag/base/full/1/log.jsonl <<'END'
{"event": "run", "trained": 1234567, "config": {"model": "hub"}}
{"event": "step", "step": 1, "loss": 1}
{"event": "done", "seconds": 12}
END
mkdir -p runs/ag/tapt/full/0
cat > runs/ag/tapt/full/0/score.json <<'END'
{"event": "score", "scores": {"accuracy": 0.75, "macro_f1": 0.7}}
END
mkdir -p runs/ag/tapt/full/0
cat > runs/ag/tapt/full/0/log.jsonl <<'END'
{"event": "run", "trained": 1234567, "config": {"model": "enc/tapt"}}
{"event": "step", "step": 1, "loss": 1}
{"event": "done", "seconds": 11}
END
mkdir -p runs/ag/base/lora/0
cat > runs/ag/base/lora/0/score.json <<'END'
{"event": "score", "scores": {"accuracy": 0.55, "macro_f1": 0.45}}
END
mkdir -p runs/ag/base/lora/0
cat > runs/ag/base/lora/0/log.jsonl <<'END'
{"event": "run", "trained": 4321, "config": {"model": "hub"}}
{"event": "step", "step": 1, "loss": 1}
{"event": "done", "seconds": 5}
END
mkdir -p runs/ag/dapt+tapt/lora/0
cat > runs/ag/dapt+tapt/lora/0/score.json <<'END'
{"event": "score", "scores": {"accuracy": 0.8, "macro_f1": 0.79}}
END
mkdir -p runs/ag/dapt+tapt/lora/0
cat > runs/ag/dapt+tapt/lora/0/log.jsonl <<'END'
{"event": "run", "trained": 4321, "config": {"model": "enc/both"}}
{"event": "step", "step": 1, "loss": 1}
{"event": "done", "seconds": 6}
END
mkdir -p enc/tapt
cat > enc/tapt/log.jsonl <<'END'
{"event": "run", "trained": 9, "config": {"model": "hub"}}
{"event": "step", "step": 1, "loss": 1}
{"event": "done", "seconds": 100}
END
mkdir -p enc/both
cat > enc/both/log.jsonl <<'END'
{"event": "run", "trained": 9, "config": {"model": "enc/dapt"}}
{"event": "step", "step": 1, "loss": 1}
{"event": "done", "seconds": 200}
END
mkdir -p enc/dapt
cat > enc/dapt/log.jsonl <<'END'
{"event": "run", "trained": 9, "config": {"model": "hub"}}
{"event": "step", "step": 1, "loss": 1}
{"event": "done", "seconds": 1000}
END
