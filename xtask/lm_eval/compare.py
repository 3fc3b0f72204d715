"""RAMP against lm-evaluation-harness 0.4.13, item by item, and the table of a record.

    python compare.py MODEL TASK_DIR OUT_DIR --ramp RAMP [--tasks piqa,...] [--limit 300] [--threads 1]

runs reference.py, then `ramp eval` on the same items in the data sets' own file forms, and prints a Markdown table.
Status 1 when fewer than 99.5 % of the predictions of a task agree, or an accuracy differs by more than one item.
A reference that is already in OUT_DIR is taken as it is.
"""

import argparse
import json
import pathlib
import subprocess
import sys

from reference import TASKS, lines

MIN_AGREEMENT = 0.995


def argmax(values):
    return max(range(len(values)), key=lambda index: (values[index], -index))


def task_folder(args, out):
    """The task folder for `ramp`: the files as they are, but HellaSwag in its original columns."""
    folder = out / "tasks"
    folder.mkdir(exist_ok=True)
    for name in ("piqa", "winogrande", "arc"):
        link = folder / name
        if not link.exists():
            link.symlink_to((args.task_dir / name).resolve())
    hellaswag = folder / "hellaswag"
    hellaswag.mkdir(exist_ok=True)
    data = out / "data" / "hellaswag.jsonl"
    if data.is_file():
        (hellaswag / "hellaswag_val.jsonl").write_bytes(data.read_bytes())
    return folder


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("task_dir", type=pathlib.Path)
    parser.add_argument("out_dir", type=pathlib.Path)
    parser.add_argument("--ramp", required=True)
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--limit", type=int, default=300)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    out = args.out_dir
    names = args.tasks.split(",")
    missing = [name for name in names if not (out / f"{name}.jsonl").is_file()]
    if missing:
        reference = pathlib.Path(__file__).with_name("reference.py")
        command = [sys.executable, reference, args.model, args.task_dir, out, "--tasks", ",".join(missing)]
        subprocess.run([*map(str, command), "--limit", str(args.limit), "--threads", str(args.threads)], check=True)

    samples = out / "ramp.jsonl"
    command = [args.ramp, "eval", args.model, "--tasks", args.tasks, "--task-dir", task_folder(args, out)]
    subprocess.run([*map(str, command), "--limit", str(args.limit), "--samples", str(samples)], check=True)

    ours = {name: [] for name in names}
    for sample in lines(samples):
        ours[sample["task"]].append(sample)
    print("| task | items | metric | lm-eval right | ramp right | same prediction | largest difference of ln p |")
    print("|---|---:|---|---:|---:|---:|---:|")
    good = True
    for name in names:
        theirs = lines(out / f"{name}.jsonl")
        assert [sample["item"] for sample in theirs] == [sample["item"] for sample in ours[name]], name
        pairs = list(zip(theirs, ours[name]))
        largest = max(
            abs(a - b) for x, y in pairs for a, b in zip(x["log_likelihoods"], y["log_likelihoods"], strict=True)
        )
        for metric, answer in (("acc", "answer"), ("acc_norm", "answer_norm")):
            if theirs[0][metric] is None:
                continue
            # The harness keeps log-likelihoods, not predictions; both follow by its own rule.
            def predicted(sample, lengths):
                values = sample["log_likelihoods"]
                return argmax(values if metric == "acc" else [v / n for v, n in zip(values, lengths)])

            same = sum(predicted(x, y["lengths"]) == y[answer] for x, y in pairs)
            right = sum(y[answer] == y["gold"] for _, y in pairs)
            harness = round(sum(x[metric] for x, _ in pairs))
            good &= same >= MIN_AGREEMENT * len(pairs) and abs(right - harness) <= 1
            share = f"{same}/{len(pairs)}"
            print(f"| {name} | {len(pairs)} | {metric} | {harness} | {right} | {share} | {largest:.1e} |")
    print("agreement" if good else "DISAGREEMENT")
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
