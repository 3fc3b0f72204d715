"""Makes baselines.safetensors: what the published methods leave of a small matrix, by NumPy and PyTorch in f64.

    python crates/ramp-quant/tests/data/baselines.py crates/ramp-quant/tests/data/baselines.safetensors

Needs numpy and torch (made with 2.4 and 2.15). Everything is written from the papers: GPTQ with the inverse Hessian,
QuIP with explicit rotation matrices, LRQ with automatic differentiation, k-means by trying every cut.
"""

import json
import struct
import sys

import numpy as np
import torch

OUT, IN, TOKENS, GROUP = 24, 48, 96, 16


def f16(x):
    return np.asarray(x).astype(np.float16).astype(np.float64)


def find(w, bits, kind="range", shares=(1.0,), weight=None):
    """Scale and zero point of a group; with several shares, those of the least weighted squared error."""
    maxq, best = 2**bits - 1, None
    for share in shares:
        lo, hi = w.min() * share, w.max() * share
        if kind == "range":
            lo, hi = min(lo, 0), max(hi, 0)
        s = f16(max((hi - lo) / maxq, 2.0**-24))
        z = np.clip(-np.round(lo / s), 0, maxq)
        err = ((w - quant(w, s, z, bits)) ** 2 * (1 if weight is None else weight)).sum()
        if best is None or err < best[0]:
            best = err, s, z
    return best[1:]


def quant(w, s, z, bits):
    return s * (np.clip(np.round(w / s) + z, 0, 2**bits - 1) - z)


def rtn(w, bits, kind="range"):
    q = np.zeros_like(w)
    for r in range(w.shape[0]):
        for g in range(0, w.shape[1], GROUP):
            q[r, g : g + GROUP] = quant(w[r, g : g + GROUP], *find(w[r, g : g + GROUP], bits, kind), bits)
    return q


def gptq(w, h, bits, act_order, static_groups, damp=0.01):
    w, h, n = w.copy(), h.copy(), w.shape[1]
    perm = np.argsort(-np.diag(h), kind="stable") if act_order else np.arange(n)
    grids = [[find(w[r, g : g + GROUP], bits) for g in range(0, n, GROUP)] for r in range(len(w))]
    w, h = w[:, perm], h[perm][:, perm]
    h += np.eye(n) * damp * np.diag(h).mean()
    hinv = np.linalg.cholesky(np.linalg.inv(h)).T  # upper: H^-1 = U^T U
    q = np.zeros_like(w)
    for i in range(n):
        if not static_groups and i % GROUP == 0:
            current = [find(w[r, i : i + GROUP], bits) for r in range(len(w))]
        for r in range(len(w)):
            s, z = grids[r][perm[i] // GROUP] if static_groups else current[r]
            q[r, i] = quant(w[r, i], s, z, bits)
        w[:, i:] -= np.outer((w[:, i] - q[:, i]) / hinv[i, i], hinv[i, i:])
    return q[:, np.argsort(perm)]


def awq(w, x, bits, clip):
    mean = np.abs(x).mean(0)
    best = None
    for k in range(20):
        s = np.maximum(mean ** (k / 20), 1e-4)
        s = s / np.sqrt(s.max() * s.min())
        s = s.astype(np.float32).astype(np.float64)
        loss = ((x @ (w - rtn(w * s, bits, "clamped") / s).T) ** 2).mean()
        if best is None or loss < best[0]:
            best = loss, k / 20, s
    _, ratio, s = best
    ws, xs = w * s, x / s
    if clip:
        for r in range(len(w)):
            for g in range(0, w.shape[1], GROUP):
                part, inputs = ws[r, g : g + GROUP], xs[:, g : g + GROUP]
                out, top, least = inputs @ part, np.abs(part).max(), None
                for i in range(10):
                    limit = top * (1 - i / 20)
                    c = np.clip(part, -limit, limit)
                    err = ((out - inputs @ quant(c, *find(c, bits, "clamped"), bits)) ** 2).mean()
                    if least is None or err < least[0]:
                        least = err, c
                ws[r, g : g + GROUP] = least[1]
    return rtn(ws, bits, "clamped") / s, ratio


def smoothquant(w, x, bits, alpha=0.5):
    s = np.abs(x).max(0) ** alpha / np.abs(w).max(0) ** (1 - alpha)
    return rtn(w * s, bits) / s


def kmeans(points, weights, k):
    """Exact, by trying every start of the last cluster."""
    order = np.argsort(points, kind="stable")
    x, f, n = points[order], weights[order], len(points)

    def cluster(a, b):
        c = np.average(x[a:b], weights=f[a:b])
        return (f[a:b] * (x[a:b] - c) ** 2).sum(), c

    table = {(0, 0): (0.0, [])}
    for c in range(1, k + 1):
        for b in range(c, n + 1):
            options = []
            for a in range(c - 1, b):
                if (c - 1, a) in table:
                    cost, center = cluster(a, b)
                    options.append((table[c - 1, a][0] + cost, table[c - 1, a][1] + [center]))
            table[c, b] = min(options, key=lambda o: o[0])
    return f16(table[k, n][1])


def squeezellm(w, fisher, bits, outliers, sensitive):
    n = w.size
    keep = np.zeros(n, bool)
    for share, score in ((outliers, np.abs(w)), (sensitive, fisher * w**2)):
        score = np.where(keep, -1, score.ravel())
        keep[np.argsort(-score, kind="stable")[: round(share * n)]] = True
    keep, q = keep.reshape(w.shape), np.zeros_like(w)
    for r in range(len(w)):
        dense = ~keep[r]
        centers = kmeans(w[r, dense], fisher[dense], 2**bits)
        nearest = lambda v: centers[np.abs(v - centers).argmin()]
        for j in range(w.shape[1]):
            q[r, j] = nearest(0) + f16(w[r, j] - nearest(0)) if keep[r, j] else nearest(w[r, j])
    return q


def splitmix(seed):
    mask = 2**64 - 1
    while True:
        seed = (seed + 0x9E3779B97F4A7C15) & mask
        z = seed
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & mask
        z = (z ^ z >> 27) * 0x94D049BB133111EB & mask
        yield z ^ z >> 31


def rotation(n, random):
    power = n & -n
    m = n // power
    had = np.ones((1, 1))
    while len(had) < power:
        had = np.block([[had, had], [had, -had]])
    k, j = np.mgrid[:m, :m]
    cosine = np.sqrt(np.where(k == 0, 1, 2) / m) * np.cos(np.pi * (2 * j + 1) * k / (2 * m))
    signs = np.array([-1.0 if next(random) >> 63 else 1.0 for _ in range(n)])
    return np.kron(cosine, had / np.sqrt(power)) * signs


def quip(w, h, bits, seed, damp=0.01, passes=10):
    random = splitmix(seed)
    u, v = rotation(IN, random), rotation(OUT, random)
    assert np.allclose(u @ u.T, np.eye(IN)) and np.allclose(v @ v.T, np.eye(OUT))
    w, h, n = v @ w @ u.T, u @ h @ u.T, IN
    shares = [1 - 0.5 * i / 10 for i in range(11)]
    weight = np.diag(h).copy()
    grids = [
        [find(w[r, g : g + GROUP], bits, "range", shares, weight[g : g + GROUP]) for g in range(0, n, GROUP)]
        for r in range(OUT)
    ]
    h = h + np.eye(n) * damp * np.diag(h).mean()
    # H = U D U^T with a unit upper triangle, from the Cholesky factor of the reversed matrix.
    lower = np.linalg.cholesky(h[::-1, ::-1])[::-1, ::-1]
    upper = lower / np.diag(lower)
    q = np.zeros_like(w)
    for i in range(n):
        target = w[:, i] + (w[:, :i] - q[:, :i]) @ upper[:i, i]
        q[:, i] = [quant(target[r], *grids[r][i // GROUP], bits) for r in range(OUT)]
    for _ in range(passes):
        for i in range(n):
            target = q[:, i] + (w - q) @ h[:, i] / h[i, i]
            q[:, i] = [quant(target[r], *grids[r][i // GROUP], bits) for r in range(OUT)]
    return v.T @ q @ u


def lrq(w, h, bits, rank, steps, lr, seed):
    random = splitmix(seed)
    uniform = lambda: (next(random) >> 11) / 2**53
    normal = lambda: sum(uniform() for _ in range(12)) - 6
    u0 = np.array([normal() for _ in range(rank * IN)]).reshape(rank, IN) / np.sqrt(rank)
    grids = np.array([[find(w[r, g : g + GROUP], bits) for g in range(0, IN, GROUP)] for r in range(OUT)])
    s0, z = (torch.tensor(grids[..., i]) for i in (0, 1))
    w, h = torch.tensor(w), torch.tensor(h)
    tensors = [torch.zeros(s0.shape), torch.zeros(OUT, rank), torch.tensor(u0), torch.zeros(OUT, 1), torch.zeros(1, IN)]
    log_s, left, u, r, c = (t.double().requires_grad_() for t in tensors)
    adam = torch.optim.Adam([log_s, left, u, r, c], lr=lr)
    straight = lambda hard, soft: soft + (hard - soft).detach()
    spread = lambda t: t.repeat_interleave(GROUP, 1)
    best, first = None, None
    for step in range(steps + 1):
        soft = s0 * log_s.exp()
        s = spread(straight(soft.half().double(), soft))
        code = w / (s * (left @ u + r + c).exp()) + spread(z)
        # Clamped before, so that rounding errors of the sum inside do not decide about the ends.
        code = straight(code.round().clamp(0, 2**bits - 1), code.clamp(-0.5, 2**bits - 0.5))
        hat = s * (code - spread(z))
        loss = torch.trace((hat - w) @ h @ (hat - w).T)
        first = first or loss.item()
        if best is None or loss.item() < best[0]:
            best = loss.item(), hat.detach().numpy().copy()
        adam.zero_grad()
        (loss / torch.trace(w @ h @ w.T)).backward()
        adam.step()
    return best[1], np.array([first, best[0]])


def save(path, tensors):
    header, data = {}, b""
    for name, tensor in tensors.items():
        raw = np.ascontiguousarray(tensor, np.float32).tobytes()
        header[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    header = json.dumps(header).encode()
    header += b" " * (-len(header) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(header)) + header + data)


def main():
    rng = np.random.default_rng(5)
    # Inputs with some strong channels and common directions, rounded to f32 as the test reads them.
    x = rng.normal(size=(TOKENS, IN)) * np.exp(rng.normal(size=IN)) + rng.normal(size=(TOKENS, 4)) @ rng.normal(size=(4, IN))
    w = rng.standard_t(5, size=(OUT, IN)) * 0.05
    x, w = (a.astype(np.float32).astype(np.float64) for a in (x, w))
    h = x.T @ x / TOKENS
    tensors = {"weight": w, "x": x}
    for bits in (3, 4):
        tensors[f"rtn{bits}"] = rtn(w, bits)
    tensors["gptq3_plain"] = gptq(w, h, 3, False, False)
    tensors["gptq3_act_order"] = gptq(w, h, 3, True, False)
    tensors["gptq4_static"] = gptq(w, h, 4, True, True)
    ratios = []
    for bits, clip in ((3, False), (4, True)):
        tensors[f"awq{bits}"], ratio = awq(w, x, bits, clip)
        ratios.append(ratio)
    tensors["awq_ratio"] = np.array(ratios)
    tensors["smoothquant4"] = smoothquant(w, x, 4)
    tensors["squeezellm3"] = squeezellm(w, np.diag(h), 3, 0.01, 0.005)
    tensors["quip3"] = quip(w, h, 3, seed=11)
    tensors["lrq3"], tensors["lrq3_losses"] = lrq(w, h, 3, rank=8, steps=60, lr=5e-3, seed=7)
    for name, tensor in tensors.items():
        if tensor.shape == w.shape and name != "weight":
            print(f"{name:16} output error {np.trace((tensor - w) @ h @ (tensor - w).T):.5f}")
    print("ratios", ratios, "lrq", tensors["lrq3_losses"])
    save(sys.argv[1], tensors)


if __name__ == "__main__":
    main()
