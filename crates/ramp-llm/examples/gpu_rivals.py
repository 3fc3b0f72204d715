"""PyTorch's side of `ramp doctor --thorough`: a bf16 product, affine quantization in groups of 128, and a copy.

    python gpu_rivals.py
"""

import time

import torch


def best(call, calls=20, rounds=5):
    """Seconds a call, the best of some rounds."""
    seconds = float("inf")
    for _ in range(rounds):
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(calls):
            call()
        torch.cuda.synchronize()
        seconds = min(seconds, (time.perf_counter() - start) / calls)
    return seconds


def affine(x, bits=4):
    """Quantizes and dequantizes each group, a row of x."""
    top = 2**bits - 1
    least = x.amin(1, keepdim=True).clamp(max=0)
    most = x.amax(1, keepdim=True).clamp(min=0)
    scale = ((most - least) / top).clamp(min=2**-24).half().float()
    zero = (-least / scale).round().clamp(0, top)
    code = (x / scale + zero).round().clamp(0, top)
    return (code - zero) * scale


def main():
    print(torch.__version__, torch.version.cuda, torch.cuda.get_device_name())
    m, k, n = 8192, 4096, 11008
    x = torch.randn(m, k, device="cuda", dtype=torch.bfloat16) * 0.02
    w = torch.randn(n, k, device="cuda", dtype=torch.bfloat16) * 0.02
    seconds = best(lambda: x @ w.T)
    print(f"product, bf16, {m} x {k} x {n}: {1e3 * seconds:.3f} ms, {2 * m * k * n / seconds / 1e12:.0f} TFLOP/s")
    x = torch.randn(n * k // 128, 128, device="cuda") * 0.02
    seconds = best(lambda: affine(x))
    print(f"affine, groups of 128, {n} x {k}: {1e3 * seconds:.3f} ms, {n * k / seconds / 1e9:.0f} G weights/s")
    y = torch.empty_like(x)
    seconds = best(lambda: y.copy_(x))
    print(f"copy: {8 * n * k / seconds / 1e12:.2f} TB/s read and written")


main()
