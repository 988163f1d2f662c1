#!/bin/sh
# Everything in this folder, in its order; from this folder, with archplan in the PATH, on the machine that epyc_2t was measured on.
set -eu
F=../../tests/data/fixtures
scene="--profile-dir . --profile epyc_2t,dtype=f32,kv-dtype=f32 --batch 4 --prompt 128 --output 32 --multiple hidden=16,ffn=40"

for m in plain sandwich; do
  text="--model $F/$m --importance $m.safetensors --data $F/heldout.jsonl --seq-len 256 --samples 32 --repair least-squares --repair-samples 48"
  archplan calibrate -q --model $F/$m --data $F/calibration-1.jsonl --samples 64 --seq-len 256 --out $m.safetensors
  archplan score $text --out $m-scores.csv
  # No budget: the whole space is the pool.
  archplan search -q --model $F/$m $scene --scores $m-scores.csv --study $m-spread.jsonl > /dev/null
  archplan ask --study $m-spread.jsonl --spread --count 48 > asked.jsonl
  archplan try asked.jsonl $text > found.jsonl
  archplan tell found.jsonl --study $m-spread.jsonl
  archplan study $m-spread.jsonl > $m-study.txt
done

# One budget: the chosen shapes, by scores and tries, by the prior, by size.
m=plain
archplan search --model $F/$m $scene --speedup 1.4x --scores $m-scores.csv --importance $m.safetensors --per-layer --try 10 --out by-scores > by-scores.txt
archplan search -q --model $F/$m $scene --speedup 1.4x --recovery-tokens 0 --out by-prior > /dev/null
python3 - <<'PY'
import json
lines = [json.loads(line) for line in open("by-scores/study.jsonl")]
known = {}
for line in lines:
    if "candidate" in line:
        known[line["candidate"]["id"]] = line["candidate"]
uniform = [c for c in known.values() if c["feasible"] and "uniform" in c["architecture"]["layers"]]
largest = max(uniform, key=lambda c: (c["params"], c["id"]))
a = largest["architecture"]; u = a["layers"]["uniform"]; s = u["shape"]
json.dump({"num_layers": u["count"], "hidden_size": a["hidden"], "ffn_hidden_size": s["ffn"], "num_attention_heads": s["q_heads"], "num_query_groups": s["kv_heads"]}, open("by-size.json", "w"))
plan = json.load(open("by-scores/plan.json")); c = plan["chosen"]; s = c["shape"]
kept = [l for l in range(plan["parent"]["shape"]["layers"]) if l not in c.get("dropped_layers", [])]
json.dump({"hidden_size": s["hidden"], "layers": [{k: s[k] for k in ("ffn", "q_heads", "kv_heads")}] * s["layers"], "parents": kept}, open("by-scores-uniform.json", "w"))
PY
prune="archplan prune -q --model $F/$m --importance $m.safetensors"
repair="--repair least-squares --samples 48"
$prune $repair --target by-scores --out child-per-layer
$prune $repair --target by-scores-uniform.json --out child-uniform
$prune $repair --target by-prior --out child-prior
$prune $repair --target by-size.json --out child-size
minitron="--clap off --norm none --repair none"
$prune $minitron --target by-prior --out child-prior-minitron
$prune $minitron --target by-size.json --out child-size-minitron
# Text that no step above has seen.
for child in per-layer uniform prior size prior-minitron size-minitron; do
  archplan evaluate -q --model child-$child --parent $F/$m --data $F/calibration-3.jsonl --seq-len 256 --json > $child.json
done
archplan profiles verify epyc_2t --profile-dir . --model $F/$m --model child-uniform --model child-prior --model child-size --dtype f32 --prompt 128 --batch 4 --context 144 --out latency
rm -rf child-* asked.jsonl found.jsonl
