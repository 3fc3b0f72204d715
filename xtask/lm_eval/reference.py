"""What lm-evaluation-harness 0.4.13 predicts, item by item: the reference of compare.py.

It runs in an environment of its own (see requirements.txt); nothing of the workspace is used. The tasks are the ones
that the harness ships: each configuration below includes the harness' own file and changes only where the data comes
from (its `json` loader, no download). The files of a task folder are read in their original form and rewritten as the
data set that the harness expects, here in Python, so that RAMP's reader is checked, too.

    python reference.py MODEL TASK_DIR OUT_DIR [--tasks piqa,...] [--limit 300] [--threads 2]

writes OUT_DIR/data/TASK.jsonl, OUT_DIR/summary.json and OUT_DIR/TASK.jsonl, one line per item:
{"item": 0, "log_likelihoods": [..], "acc": 1.0, "acc_norm": 0.0}
"""

import argparse
import json
import pathlib


def lines(path):
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file if line.strip()]


def first(folder, *names):
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise SystemExit(f"{folder}: none of {', '.join(names)}")


def piqa(folder):
    data = first(folder, "piqa/valid.jsonl", "piqa/dev.jsonl")
    labels = first(folder, "piqa/valid-labels.lst", "piqa/dev-labels.lst").read_text().split()
    rows = lines(data)
    assert len(rows) == len(labels)
    return [
        {"goal": row["goal"], "sol1": row["sol1"], "sol2": row["sol2"], "label": int(label)}
        for row, label in zip(rows, labels)
    ]


def winogrande(folder):
    rows = lines(first(folder, "winogrande/dev.jsonl"))
    return [{key: row[key] for key in ("sentence", "option1", "option2", "answer")} for row in rows]


def arc(folder, name):
    rows = lines(first(folder, f"arc/ARC-{name}-Test.jsonl", f"ARC-{name}/ARC-{name}-Test.jsonl"))
    return [
        {
            "id": row["id"],
            "question": row["question"]["stem"],
            "choices": {
                "text": [choice["text"] for choice in row["question"]["choices"]],
                "label": [choice["label"] for choice in row["question"]["choices"]],
            },
            "answerKey": row["answerKey"],
        }
        for row in rows
    ]


def hellaswag(folder):
    rows = []
    for row in lines(first(folder, "hellaswag/hellaswag_val.jsonl", "hellaswag_val.jsonl")):
        if "ctx_a" not in row:
            row = split_query(row)
        rows.append({key: row[key] for key in ("ind", "activity_label", "ctx_a", "ctx_b", "endings", "label")})
    return rows


def split_query(row):
    """The original columns of a row that has only `query`, "activity_label: ctx": ctx_b is what follows the last
    sentence, as in the rows from ActivityNet; rows that end with a sentence, as those from WikiHow, have none."""
    activity, ctx = row["query"].split(": ", 1)
    ctx_a, dot, ctx_b = ctx.rpartition(". ")
    if not dot or ctx.rstrip().endswith((".", "!", "?", "]")):
        ctx_a, dot, ctx_b = ctx, "", ""
    row = dict(row)
    row.update(activity_label=activity, ctx_a=ctx_a + dot.strip(), ctx_b=ctx_b)
    return row


# Task, reader, the harness' own configuration, the split that it scores.
TASKS = {
    "piqa": (piqa, "piqa/piqa.yaml", "validation"),
    "hellaswag": (hellaswag, "hellaswag/hellaswag.yaml", "validation"),
    "winogrande": (winogrande, "winogrande/default.yaml", "validation"),
    "arc_easy": (lambda folder: arc(folder, "Easy"), "arc/arc_easy.yaml", "test"),
    "arc_challenge": (lambda folder: arc(folder, "Challenge"), "arc/arc_challenge.yaml", "test"),
}

CONFIG = """\
include: {include}
task: {task}_local
dataset_path: json
dataset_name: null
dataset_kwargs:
  data_files:
    {split}: {data}
training_split: null
validation_split: {validation}
test_split: {test}
"""


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("task_dir", type=pathlib.Path)
    parser.add_argument("out_dir", type=pathlib.Path)
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--limit", type=int, default=300)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()

    import lm_eval
    import lm_eval.tasks
    import torch
    from lm_eval.models.huggingface import HFLM

    torch.set_num_threads(args.threads)
    shipped = pathlib.Path(lm_eval.tasks.__file__).parent
    data_dir, config_dir = args.out_dir / "data", args.out_dir / "config"
    data_dir.mkdir(parents=True, exist_ok=True)
    config_dir.mkdir(exist_ok=True)
    names = args.tasks.split(",")
    for name in names:
        read, include, split = TASKS[name]
        data = data_dir / f"{name}.jsonl"
        with open(data, "w", encoding="utf-8") as file:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in read(args.task_dir)[: args.limit])
        config = CONFIG.format(
            include=shipped / include,
            task=name,
            split=split,
            data=data.resolve(),
            validation="validation" if split == "validation" else "null",
            test="test" if split == "test" else "null",
        )
        (config_dir / f"{name}_local.yaml").write_text(config)

    # float32, as RAMP computes; the harness takes the folder's float16 otherwise.
    model = HFLM(pretrained=args.model, device="cpu", dtype="float32", batch_size=8)
    manager = lm_eval.tasks.TaskManager(include_path=str(config_dir))
    results = lm_eval.simple_evaluate(
        model=model,
        tasks=[f"{name}_local" for name in names],
        task_manager=manager,
        log_samples=True,
        bootstrap_iters=0,
    )
    for name in names:
        samples = sorted(results["samples"][f"{name}_local"], key=lambda sample: sample["doc_id"])
        with open(args.out_dir / f"{name}.jsonl", "w", encoding="utf-8") as file:
            for sample in samples:
                line = {
                    "item": sample["doc_id"],
                    "log_likelihoods": [float(response[0]) for response in sample["filtered_resps"]],
                    "acc": sample["acc"],
                    "acc_norm": sample.get("acc_norm"),
                }
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
    summary = {name: results["results"][f"{name}_local"] for name in names}
    summary["version"] = lm_eval.__version__
    (args.out_dir / "summary.json").write_text(json.dumps(summary, indent=2, default=str))


if __name__ == "__main__":
    main()
