"""RAMP's `--protocol lm-eval` against the harness' task `wikitext` on the first pages of a raw WikiText file.

    python wikitext.py MODEL wiki.test.raw OUT_DIR --ramp RAMP [--pages 6] [--threads 1]

Pages are split here as the harness' data set is (a line `= Title =` begins one). Status 1 when bits per byte differ by
more than 0.01 %.
"""

import argparse
import json
import pathlib
import subprocess
import sys

CONFIG = """\
include: {include}
task: wikitext_local
dataset_path: json
dataset_name: null
dataset_kwargs:
  data_files:
    test: {data}
training_split: null
validation_split: null
test_split: test
"""


def pages(raw):
    page = []
    for line in raw.split("\n"):
        title = line.replace("= = =", "===").replace("= =", "==").strip()
        if title.startswith("= ") and title.endswith(" ="):
            if "\n".join(page).strip():
                yield "\n".join(page)
            page = []
        page.append(line)
    yield "\n".join(page)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("text", type=pathlib.Path)
    parser.add_argument("out_dir", type=pathlib.Path)
    parser.add_argument("--ramp", required=True)
    parser.add_argument("--pages", type=int, default=6)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    args.out_dir.mkdir(parents=True, exist_ok=True)
    chosen = list(pages(args.text.read_text(encoding="utf-8")))[: args.pages]
    # The last page must end where a title begins, as it does in the whole file.
    text = args.out_dir / "pages.raw"
    text.write_text("\n".join(chosen), encoding="utf-8")
    data = args.out_dir / "pages.jsonl"
    data.write_text("".join(json.dumps({"page": page}) + "\n" for page in chosen), encoding="utf-8")

    import lm_eval
    import lm_eval.tasks
    import torch
    from lm_eval.models.huggingface import HFLM

    torch.set_num_threads(args.threads)
    shipped = pathlib.Path(lm_eval.tasks.__file__).parent / "wikitext" / "wikitext.yaml"
    (args.out_dir / "wikitext_local.yaml").write_text(CONFIG.format(include=shipped, data=data.resolve()))
    manager = lm_eval.tasks.TaskManager(include_path=str(args.out_dir))
    model = HFLM(pretrained=args.model, device="cpu", dtype="float32", batch_size=1)
    results = lm_eval.simple_evaluate(
        model=model, tasks=["wikitext_local"], task_manager=manager, bootstrap_iters=0
    )["results"]["wikitext_local"]
    command = [args.ramp, "eval", args.model, "--text", str(text), "--protocol", "lm-eval", "--json"]
    ours = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    print("| metric | lm-eval | ramp | relative difference |")
    print("|---|---:|---:|---:|")
    worst = 0.0
    for metric in ("word_perplexity", "byte_perplexity", "bits_per_byte"):
        theirs = results[f"{metric},none"]
        difference = ours[metric] / theirs - 1
        print(f"| {metric} | {theirs:.6f} | {ours[metric]:.6f} | {difference:+.1e} |")
        if metric == "bits_per_byte":
            worst = abs(difference)
    sys.exit(0 if worst <= 1e-4 else 1)


if __name__ == "__main__":
    main()
