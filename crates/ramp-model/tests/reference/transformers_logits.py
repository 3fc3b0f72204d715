"""Logits of the random models of ../it/random.rs in Hugging Face transformers, for ../it/transformers.rs.

    python transformers_logits.py ../it/random.rs > transformers_logits.json

The weights are made here once more, from the names of the tensors, so that nothing but this file and the
configurations in random.rs is needed. The numbers were made with transformers 5.24.0 and torch 2.15.0+cu132 on a CPU,
in float64, on 2026-11-25.
"""
import json
import re
import sys

import numpy
import torch
import transformers

MASK = (1 << 64) - 1


def spread(name):
    if name.endswith(("q_norm.weight", "k_norm.weight")):
        return 1.0, 0.8
    if re.search(r"(norm|ln_\w+)\.weight$", name):
        return 1.0, 0.5
    if name.endswith(".bias") or "wpe" in name:
        return 0.0, 0.5
    if re.search(r"embed_tokens|wte|lm_head", name):
        return 0.0, 0.5
    return 0.0, 0.25


def values(name, n):
    mean, size = (numpy.float32(x) for x in spread(name))
    state = 0xCBF29CE484222325
    for byte in name.encode():
        state = ((state ^ byte) * 0x100000001B3) & MASK
    state |= 1
    out = numpy.empty(n, dtype=numpy.float32)
    for i in range(n):
        state ^= (state << 13) & MASK
        state ^= state >> 7
        state ^= (state << 17) & MASK
        out[i] = mean + size * (numpy.float32(state >> 40) / numpy.float32(1 << 23) - numpy.float32(1))
    return out


result = {}
for name, text in re.findall(r'const (\w+): &str = r#"(.*?)"#', open(sys.argv[1]).read(), re.S):
    keys = json.loads(text)
    config = transformers.AutoConfig.for_model(keys.pop("model_type"), **keys)
    model = transformers.AutoModelForCausalLM.from_config(config).double().eval()
    tied = model.lm_head.weight is model.get_input_embeddings().weight
    with torch.no_grad():
        for tensor, parameter in model.named_parameters():
            if not (tied and tensor == "lm_head.weight"):
                flat = torch.from_numpy(values(tensor, parameter.numel())).double()
                parameter.copy_(flat.reshape(parameter.shape))
        ids = torch.tensor([[(37 * i + 11) % 2048 for i in range(100)]])
        logits = model(ids, use_cache=False).logits[0]
    result[name] = {
        "logsumexp": {str(at): torch.logsumexp(logits[at], 0).item() for at in (0, 1, 40, 99)},
        "logits_99": {str(id): logits[99, id].item() for id in (0, 7, 1000, 2047)},
    }
print(json.dumps(result, indent=1))
