# A small experiment with everything that a page shows. Names are hostile: they must stay text.
run() { # folder, accuracy, further keys of the score
  mkdir -p "runs/$1"
  cat > "runs/$1/score.json" <<END
{"event":"score","shard":"tok/test.tok","examples":40,"scores":{"accuracy":$2,"macro_f1":$2,"micro_f1":$2,"mcc":0.5,"loss":0.75},
 "per_class":[{"label":"World","precision":0.75,"recall":0.6,"f1":0.6667,"support":20},
  {"label":"<script>alert(1)</script>","precision":0.5,"recall":0.5,"f1":0.5,"support":12},
  {"label":"a | b \"q\" & 'c'","precision":0,"recall":0,"f1":0,"support":8}],
 "confusion":{"gold":["World","<script>alert(1)</script>","a | b \"q\" & 'c'"],"pred":["World","<script>alert(1)</script>","a | b \"q\" & 'c'"],
  "counts":[[12,5,3],[4,6,2],[7,1,0]]},
 "intervals":{"accuracy":[0.3,0.7],"macro_f1":[0.25,0.65]},"top_k":{"2":0.875},"auc":0.8125,"average_precision":0.7,
 "calibration":{"error":0.0625,"bins":[{"count":0,"said":0,"right":0},{"count":10,"said":0.45,"right":0.4},{"count":30,"said":0.9,"right":0.8}]},
 "baselines":{"majority":{"accuracy":0.5,"macro_f1":0.2222},"naive_bayes":{"accuracy":0.7,"macro_f1":0.65}},
 "seen":{"texts":40,"pretraining":null,"training":0,"validation":0},"seconds":0.5$3}
END
}
log() { # folder, trained weights, model, method, learning rate, losses on validation, seconds
  cat > "runs/$1/log.jsonl" <<END
{"event":"run","version":"0.1.0","program":"finetune","command":"finetune --model $3 -o $1","device":"cpu","dtype":"f32","parameters":1000000,"trained":$2,"steps":30,"config":{"model":"$3","train":["tok/train.tok"],"eval":["tok/validation.tok"],"method":{"method":"$4"},"run":{"schedule":{"lr":$5},"batch":{"batch":16}}}}
{"event":"step","step":10,"loss":1.25,"lr":$5,"tokens":100,"seconds":1,"tokens_per_s":1500,"max_rss":512000000}
{"event":"eval","step":10,"scores":{"accuracy":0.5,"loss":$6}}
{"event":"step","step":20,"loss":0.75,"lr":1e-5,"tokens":200,"seconds":2,"tokens_per_s":1600}
{"event":"eval","step":20,"scores":{"accuracy":0.75,"loss":1.0}}
{"event":"done","step":20,"seconds":$7,"best":{"step":20,"macro_f1":0.75},"max_rss":640000000}
END
}
right() { # folder, how many of 40 texts are right
  for row in $(seq 0 39); do
    echo "{\"row\":$row,\"gold\":\"World\",\"pred\":\"$([ "$row" -lt "$2" ] && echo World || echo other)\",\"probs\":{}}"
  done > "runs/$1/predictions.jsonl"
}
seed=0
for accuracy in 0.5 0.525 0.55; do
  run ag/base/full/$seed $accuracy; log ag/base/full/$seed 1000000 hub full 2e-5 1.1 4; right ag/base/full/$seed 20
  run ag/tapt/full/$seed 0.9; log ag/tapt/full/$seed 1000000 runs/ag/tapt full 2e-5 0.9 5
  seed=$((seed + 1))
done
run ag/tapt/full/2 0.875 ',"chosen_on_this":true'
run ag/base/lora/0 0.65 ',"degenerate":"every text is predicted to be \"<b>\"","bytes":40000'
sed -i 's/"training":0/"training":3/' runs/ag/base/lora/0/score.json
log ag/base/lora/0 10000 hub lora 4e-4 1.1 2; sed -i 's/"max_rss":640/"max_memory_allocated":123456789,&/' runs/ag/base/lora/0/log.jsonl; right ag/base/lora/0 26
cat > runs/ag/tapt/log.jsonl <<'END'
{"event":"run","version":"0.1.0","program":"pretrain","command":"pretrain","trained":1000000,"config":{"model":"hub"}}
{"event":"guard","step":0,"nats":2.5,"before":2.5}
{"event":"step","step":10,"loss":3.5,"lr":1e-4,"tokens_per_s":900,"max_rss":2048000000}
{"event":"guard","step":20,"nats":2.75,"before":2.5}
{"event":"step","step":20,"loss":3.25,"lr":1e-5,"tokens_per_s":950}
{"event":"done","step":20,"seconds":60}
END
mkdir -p runs/rates/base/full/0
cat > runs/rates/base/full/0/score.json <<'END'
{"event":"score","problem":"regression","shard":"tok/rates.tok","examples":12,"scores":{"mse":1.5,"mae":1,"r2":null,"pearson":0.25,"spearman":0.5,"loss":1.5}}
END
log rates/base/full/0 1000000 hub full 2e-5 1.1 4
python3 hidden.py runs/ag/base/hidden.safetensors
cp runs/ag/base/hidden.safetensors runs/ag/base/full/0/
prep sample --split general --limit 300 --train-tokenizer 300 -q -o tok
prep sample --split test --limit 40 --tokenizer tok -q -o tok/test.tok
# Of the model that was kept at step 10, and of an encoder whose texts are others.
mkdir -p runs/ag/base/full/0/step-000010
python3 hidden.py runs/ag/base/full/0/step-000010/hidden.safetensors 2
python3 hidden.py runs/ag/tapt/hidden.safetensors 1 7
