#!/bin/sh
# Everything in this folder, in its order; from this folder, with archplan in the PATH.
set -eu
F=../../tests/data/fixtures
m=plain
text="--model $F/$m --importance stats.safetensors"
archplan calibrate -q --gram --model $F/$m --data $F/calibration-1.jsonl --samples 64 --seq-len 256 --out stats.safetensors > /dev/null

# What a child loses on text that no step has seen, nats a token above the parent.
judge() {
  name=$1; shift
  for repair in $repairs; do
    rm -rf child
    archplan prune -q $text --repair $repair --samples 48 "$@" --out child > /dev/null
    archplan evaluate -q --model child --parent $F/$m --data $F/calibration-3.jsonl --seq-len 256 --json > evaluated.json
    python3 -c "import json; e = json.load(open('evaluated.json')); d = e['parent']['loss_difference_nats_per_token']; print('$name', '$repair', f\"{d['mean']:.4f}\", f\"{d['standard_error']:.4f}\", sep=',')" >> losses.csv
  done
  rm -rf child evaluated.json
}
walk() { name=$1; target=$2; shift 2; archplan mask -q $text --target $target --data $F/calibration-2.jsonl --json --out $name "$@" > $name.json; judge $name --target $name --mask $name; rm -rf $name; }

echo "choice,repair,loss_increase_nats,standard_error" > losses.csv
for share in 70 55; do
  # At 70 % KV heads may go as well, at 55 % neurons alone; no shape with all layers alike is small enough there.
  case $share in 70) skip=hidden,layers ;; *) skip=hidden,layers,q_heads,kv_heads ;; esac
  # The best shape for each layer by the scores, under parameters alone; hidden size and layers as they are.
  limit=$(python3 -c "print(round(1442944 * $share / 100))")
  archplan search -q --model $F/$m --profile-dir ../fixture-scores --profile epyc_2t,dtype=f32,kv-dtype=f32 --batch 4 --prompt 128 --output 32 --multiple hidden=16,ffn=40 \
    --skip $skip --scores ../fixture-scores/$m-scores.csv --per-layer --max-params $limit --out scores-$share > scores-$share.txt
  exact=scores-$share
  repairs='none least-squares spap'
  judge $exact --target $exact
  for criterion in fasp compensated spap; do judge $exact-$criterion --target $exact --criterion $criterion; done
  repairs='none least-squares'
  # Where the walks begin: the criterion's mask over all layers.
  walk begun-$share $exact --steps 1 --rate 0.000001
  # 600 masks of 1,024 tokens: as many passes as the scores took. Then three times as many.
  for steps in 300 1000; do
    for seed in 0 1; do walk mask-$share-$steps-$seed $exact --steps $steps --seed $seed; done
    # At 55 % only the short one was run.
    [ $share-$steps = 55-1000 ] || walk published-$share-$steps $exact --steps $steps --ffn-unit 1 --ffn-multiple 40 --baseline recent --rate 0.002
  done
done
walk within-70 scores-70 --steps 1000 --scope layer --ffn-unit 20
rm stats.safetensors
