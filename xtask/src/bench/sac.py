"""Updates of SAC with PyTorch, the paper's networks, some for each line on the standard input; see sac.rs.

As CleanRL has it, with automatic temperature, LayerNorm and clipping per network, a sigmoid-squashed Gaussian, the
optimizers' multi-tensor form and multi-tensor averaging of targets."""
import json
import sys
import time

import torch
from torch import nn
from torch.nn import functional as F

UPDATES, THREADS = int(sys.argv[1]), int(sys.argv[2])
STATE, ACTION, BATCH, STEPS = 11, 1, 128, 20 * 224
torch.set_num_threads(THREADS)
torch.manual_seed(0)


def net(inputs, outputs):
    return nn.Sequential(
        nn.Linear(inputs, 512), nn.LayerNorm(512), nn.ReLU(),
        nn.Linear(512, 512), nn.LayerNorm(512), nn.ReLU(),
        nn.Linear(512, 256), nn.ReLU(), nn.Linear(256, outputs))


actor = net(STATE, 2 * ACTION)
critics, targets = ([net(STATE + ACTION, 1) for _ in range(2)] for _ in range(2))
for critic, target in zip(critics, targets):
    target.load_state_dict(critic.state_dict())
critic_params = [p for critic in critics for p in critic.parameters()]
target_params = [p for target in targets for p in target.parameters()]
log_alpha = torch.tensor(0.2).log().requires_grad_()
actor_adam = torch.optim.Adam(actor.parameters(), 3e-4)
critic_adam = torch.optim.Adam(critic_params, 3e-4)
alpha_adam = torch.optim.Adam([log_alpha], 3e-4)
replay = [torch.randn(STEPS, STATE), torch.rand(STEPS, ACTION), torch.rand(STEPS, 1), torch.randn(STEPS, STATE)]
replay.append((torch.arange(STEPS) % 224 == 223).float()[:, None])


def sample(states):
    mu, raw = actor(states).chunk(2, 1)
    log_std = -5 + 3.5 * (torch.tanh(raw) + 1)
    epsilon = torch.randn_like(mu)
    u = mu + log_std.exp() * epsilon
    log_pi = -0.5 * epsilon**2 - log_std - 0.9189385 + F.softplus(u) + F.softplus(-u)
    return torch.sigmoid(u), log_pi.sum(1, keepdim=True)


def least(networks, states, actions):
    rows = torch.cat([states, actions], 1)
    return torch.min(networks[0](rows), networks[1](rows))


def update():
    rows = torch.randint(0, STEPS, (BATCH,))
    s, a, r, s2, d = (column[rows] for column in replay)
    alpha = log_alpha.exp().detach()
    with torch.no_grad():
        a2, log_pi = sample(s2)
        y = r + 0.99 * (1 - d) * (least(targets, s2, a2) - alpha * log_pi)
    both = torch.cat([s, a], 1)
    critic_loss = sum(F.mse_loss(critic(both), y) for critic in critics)
    critic_adam.zero_grad()
    critic_loss.backward()
    for critic in critics:
        nn.utils.clip_grad_norm_(critic.parameters(), 1.0)
    critic_adam.step()

    # Frozen, so that the actor's loss costs no gradients of the critics.
    for p in critic_params:
        p.requires_grad_(False)
    sampled, log_pi = sample(s)
    actor_loss = (alpha * log_pi - least(critics, s, sampled)).mean()
    actor_adam.zero_grad()
    actor_loss.backward()
    nn.utils.clip_grad_norm_(actor.parameters(), 1.0)
    actor_adam.step()
    for p in critic_params:
        p.requires_grad_(True)

    alpha_loss = -(log_alpha.exp() * (log_pi.detach() - 1)).mean()
    alpha_adam.zero_grad()
    alpha_loss.backward()
    alpha_adam.step()
    with torch.no_grad():
        torch._foreach_lerp_(target_params, critic_params, 0.005)
    return critic_loss.item()


print(f"ready torch {torch.__version__}", flush=True)
for _ in sys.stdin:
    start = time.perf_counter()
    for _ in range(UPDATES):
        loss = update()
    print(json.dumps({"seconds": time.perf_counter() - start, "loss": loss}), flush=True)
