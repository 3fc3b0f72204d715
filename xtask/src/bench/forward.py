"""Scores windows of tokens with PyTorch, once for each line on the standard input; see forward.rs."""
import json
import sys
import time

import torch
import transformers
from transformers import AutoModelForCausalLM

folder, tokens, threads = sys.argv[1], sys.argv[2], int(sys.argv[3])
torch.set_num_threads(threads)
model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
windows = torch.tensor(json.load(open(tokens)))
print(f"ready torch {torch.__version__}, transformers {transformers.__version__}", flush=True)
for _ in sys.stdin:
    start, total = time.perf_counter(), 0.0
    with torch.inference_mode():
        for window in windows:
            logits = model(window[None], use_cache=False).logits[0, :-1]
            total += torch.nn.functional.cross_entropy(logits, window[1:], reduction="sum").item()
    seconds = time.perf_counter() - start
    scored = windows.shape[0] * (windows.shape[1] - 1)
    print(json.dumps({"seconds": seconds, "mean_nll": total / scored}), flush=True)
