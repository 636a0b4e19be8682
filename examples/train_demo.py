"""Train the demo model from scratch on the procedural world, in three stages. It never meets compression.

1. encoder: the vision encoder alone, on pairs of frames, from dense labels: what does each patch show?
2. decoder: the language model alone, on cached visual tokens, with many questions per clip.
3. joint: everything, on whole clips, from answers and dense labels.

Example: python examples/train_demo.py --out runs/demo --export ipcv/demo
Run again with --resume to continue from the last checkpoint, or train a finished model further, in stages with as many
steps as you say: --init ipcv/demo --steps 0 500 850
"""

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from demo_data import SIDE, Clips, Pairs, Pool
from demo_export import export
from demo_text import SYSTEM, UNKNOWN, Packed, build_tokenizer, draw_pairs, pack, prefix
from demo_vision import MERGE, Camera, Probes, build_model, encode, to_patches
from torch import Tensor
from torch.utils.data import DataLoader

from ipcv.architecture.positions import prompt_positions
from ipcv.benchmark.cases import benchmark
from ipcv.benchmark.reference_captions import fact_score
from ipcv.benchmark.wordings import KINDS
from ipcv.world.random_scene import make_scene

STAGES = ("encoder", "decoder", "joint")
QUESTIONS = 8  # per clip
DENSE = 0.3  # weight of the dense labels in the joint stage
PLACE = 0.1  # weight of telling where in the frame a visual token is
EVERY = 50  # steps between lines of the curve
SAVE = 250  # steps between checkpoints


class Trainer:
    """The model with its optimizers, checkpoints and curve."""

    def __init__(self, out: Path, device: torch.device, workers: int = 1) -> None:
        torch.manual_seed(0)
        self.out, self.device, self.workers = out, device, workers
        self.tokenizer = build_tokenizer()
        vocabulary = self.tokenizer.get_vocab()
        self.model = build_model(len(vocabulary), vocabulary).to(device)
        self.model.set_attn_implementation("eager")  # at this size quicker to train through than a fused kernel
        self.probes = Probes(self.model.config.text_config.hidden_size).to(device)
        self.camera = Camera(device)
        self.place = {"stage": "encoder", "step": 0, "seconds": 0.0}

    def start_from(self, folder: Path) -> None:
        """Take the weights of an exported model."""
        self.model.load_state_dict(type(self.model).from_pretrained(folder, dtype=torch.float32).state_dict())

    def start_stage(self, stage: str, rate: float) -> None:
        """Fresh optimizers: Muon for the matrices inside the blocks, AdamW for all else."""
        parts = {
            "encoder": [self.model.model.visual, self.probes],
            "decoder": [self.model.model.language_model, self.probes.place],
        }
        named = [x for part in parts.get(stage, [self.model, self.probes]) for x in part.named_parameters()]
        inner = [w for name, w in named if w.ndim == 2 and ("blocks." in name or "layers." in name)]
        other = [w for name, w in named if not (w.ndim == 2 and ("blocks." in name or "layers." in name))]
        self.rate, self.weights = rate, inner + other
        self.optimizers = [
            torch.optim.Muon(inner, lr=rate, weight_decay=0.02, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(other, lr=rate, weight_decay=0.01, betas=(0.9, 0.98)),
        ]

    def update(self, loss: Tensor, share: float, warm: float) -> None:
        """One step; `share` of the stage is done."""
        for optimizer in self.optimizers:
            optimizer.zero_grad()
            for group in optimizer.param_groups:
                group["lr"] = self.rate * warm * max(0.02, min(1.0, (1 - share) / 0.6))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.weights, 1.0)
        for optimizer in self.optimizers:
            optimizer.step()

    def autocast(self) -> torch.autocast:
        """Matrix products in bfloat16; weights, gradients and optimizer states stay in float32."""
        return torch.autocast(self.device.type, torch.bfloat16)

    def save(self) -> None:
        """Write the checkpoint in one go: a broken run leaves the last one whole."""
        state = {
            "place": self.place,
            "model": self.model.state_dict(),
            "probes": self.probes.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
        }
        torch.save(state, self.out / "checkpoint.tmp")
        (self.out / "checkpoint.tmp").replace(self.out / "checkpoint.pt")

    def load(self) -> dict[str, Any]:
        """Take up the last checkpoint; the optimizers' states are for the stage that goes on."""
        state = torch.load(self.out / "checkpoint.pt", map_location=self.device)
        self.model.load_state_dict(state["model"])
        self.probes.load_state_dict(state["probes"])
        self.place = state["place"]
        return state

    def see(self, frames: Tensor, side: int, rng: torch.Generator | None = None) -> Tensor:
        """Merged visual tokens [B, m, d] of frame pairs [B, 2, S, S, 3], through the camera if `rng` is given."""
        with torch.no_grad():
            patches = to_patches(frames.to(self.device), side, self.camera if rng else None, rng)
        return encode(self.model, patches)

    def answer(self, tokens: Tensor, rows: list[Packed], system: str | None) -> tuple[Tensor, Tensor, Tensor]:
        """Scores [n, vocabulary] and labels [n] at every token of every answer; `tokens` is [B, pairs, m, d].

        And the visual tokens after the first layer, [B, pairs * m, d].
        """
        pairs, cells = tokens.shape[1:3]
        head = torch.tensor(prefix(self.tokenizer, pairs * cells, system))
        types = (head == self.model.config.video_token_id).long() * 2
        side = round(cells**0.5) * MERGE
        grid = torch.tensor([[pairs, side, side]])
        positions = prompt_positions(self.model, head[None], types[None], video_grid_thw=grid)[:, 0]  # [3, P]
        longest = max(map(len, rows))
        padded = torch.tensor([[*row, *[(0, -1, 0, -100)] * (longest - len(row))] for row in rows])
        ids, numbers, places, labels = padded.unbind(-1)
        numbers = F.pad(numbers, (len(head), 0))
        later = (positions.max() + 1 + places)[None].expand(3, -1, -1)
        positions = torch.cat((positions[:, None].expand(-1, len(rows), -1), later), -1).to(self.device)
        length = numbers.shape[1]
        shared = (numbers[:, None] == 0) | (numbers[:, None] == numbers[..., None])
        mask = (shared & torch.ones(length, length, dtype=torch.bool).tril())[:, None].to(self.device)
        ids = torch.cat((head.expand(len(rows), -1), ids), 1).to(self.device)
        hidden = self.model.get_input_embeddings()(ids)
        visual = ids == self.model.config.video_token_id
        hidden = hidden.masked_scatter(visual[..., None], tokens.to(hidden.dtype))
        mask = {"full_attention": torch.zeros(mask.shape, device=self.device).masked_fill_(~mask, float("-inf"))}
        out = self.model.model.language_model(
            inputs_embeds=hidden, position_ids=positions, attention_mask=mask, output_hidden_states=True
        )
        wanted = F.pad(labels, (len(head), 0), value=-100).to(self.device)
        scores = self.model.lm_head(out.last_hidden_state[wanted != -100])
        return scores, wanted[wanted != -100], out.hidden_states[1][visual].unflatten(0, (len(rows), -1))

    def loss(self, tokens: Tensor, pool: Pool, numbers: list[int], step: int) -> tuple[Tensor, float]:
        """Answer loss, and the share of right answer tokens, over questions drawn for this step.

        `numbers` are the clips' scenes; of a clip that has none, -1, nothing is known.
        """
        rng = np.random.default_rng([9, step])
        system = str(rng.choice(SYSTEM)) if rng.random() < 0.2 else None
        rows = []
        for number in numbers:
            asked_about = pool.scenes[number if number >= 0 else int(rng.integers(len(pool.scenes)))]
            pairs = draw_pairs(asked_about, rng, QUESTIONS)
            rows.append(pack(self.tokenizer, pairs if number >= 0 else [(text, UNKNOWN) for text, _ in pairs[:3]]))
        scores, labels, seen = self.answer(tokens, rows, system)
        weights = torch.tensor([weight for row in rows for weight in token_weights(row)], device=labels.device)
        losses = F.cross_entropy(scores.float(), labels, reduction="none")
        loss = losses @ weights / weights.sum() + PLACE * self.probes.where(seen, tokens.shape[2])
        return loss, (scores.argmax(-1) == labels).float().mean().item()


def token_weights(row: Packed) -> list[float]:
    """Weight of every answer token of a row: captions are long, and would else outweigh all other answers."""
    answers = [number for _, number, _, label in row if label != -100]
    return [answers.count(number) ** -0.5 for number in answers]


def batches(trainer: Trainer, pool: Pool, stage: str, steps: int, clips: int) -> Iterator[dict[str, Tensor]]:
    """The batches of a stage from the trainer's step on; in the decoder stage visual tokens instead of frames."""
    first, ahead = trainer.place["step"], {"batch_size": None, "num_workers": trainer.workers, "prefetch_factor": 4}
    if stage != "decoder":
        data = Pairs(pool, first, steps) if stage == "encoder" else Clips(pool, 2, first, steps, labelled=True)
        yield from DataLoader(data, **ahead)
        return
    stored: dict[tuple[int, ...], list[dict[str, Tensor]]] = {}
    for index, batch in enumerate(DataLoader(Clips(pool, 1, 0, clips, labelled=False), **ahead)):
        with torch.no_grad(), trainer.autocast():
            frames = batch["frames"]
            tokens = trainer.see(frames.flatten(0, 1), int(batch["side"]), torch.Generator().manual_seed(index))
        tokens = tokens.unflatten(0, frames.shape[:2]).half()
        stored.setdefault(tuple(tokens.shape[1:]), []).append({"tokens": tokens, "scenes": batch["scenes"]})
    kinds = [{key: torch.cat([part[key] for part in parts]) for key in parts[0]} for parts in stored.values()]
    sizes = np.array([len(kind["scenes"]) for kind in kinds])
    for step in range(first, steps):  # other clips meet in a batch every time
        rng = np.random.default_rng([7, step])
        kind = kinds[int(rng.choice(len(kinds), p=sizes / sizes.sum()))]
        count = min(len(kind["scenes"]), 3000 // kind["tokens"].shape[1:3].numel() + 4)
        picks = torch.from_numpy(rng.choice(len(kind["scenes"]), count, replace=False))
        yield {key: value[picks] for key, value in kind.items()}


def stage_loss(
    trainer: Trainer, pool: Pool, stage: str, batch: dict[str, Tensor], step: int
) -> tuple[Tensor, list[float]]:
    """The loss of a batch, and shares of right answer tokens and patches."""
    numbers = batch["scenes"].tolist() if "scenes" in batch else []
    if stage == "decoder":
        loss, right = trainer.loss(batch["tokens"].float(), pool, numbers, step)
        return loss, [right]
    frames, labels = batch["frames"], batch["labels"].to(trainer.device)
    rng = torch.Generator().manual_seed(step)
    if stage == "encoder":
        return trainer.probes(trainer.see(frames, int(batch["side"]), rng), labels)
    tokens = trainer.see(frames.flatten(0, 1), int(batch["side"]), rng)
    dense, right = trainer.probes(tokens, labels.flatten(0, 1))
    loss, share = trainer.loss(tokens.unflatten(0, frames.shape[:2]), pool, numbers, step)
    return loss + DENSE * dense, [share, *right]


def run_stage(
    trainer: Trainer, pool: Pool, stage: str, steps: int, rate: float, clips: int, state: dict[str, Any] | None
) -> None:
    """Train one stage to its end, from where `state` stopped."""
    trainer.start_stage(stage, rate)
    if state:
        for optimizer, saved in zip(trainer.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
    else:
        trainer.place |= {"stage": stage, "step": 0}
    if trainer.place["step"] >= steps:
        return
    first, curve, began = trainer.place["step"], [], time.monotonic() - trainer.place["seconds"]
    for step, batch in enumerate(batches(trainer, pool, stage, steps, clips), first):
        with trainer.autocast():
            loss, right = stage_loss(trainer, pool, stage, batch, step)
        trainer.update(loss, step / steps, min(1.0, (step + 1) / 60))
        curve.append([loss.item(), *right])
        trainer.place |= {"step": step + 1, "seconds": time.monotonic() - began}
        if (step + 1) % EVERY == 0 or step + 1 == steps:
            means = np.nanmean(curve, 0).round(3).tolist()
            line = {"stage": stage, "step": step + 1, "seconds": round(trainer.place["seconds"]), "means": means}
            print(json.dumps(line), flush=True)
            with (trainer.out / "curve.jsonl").open("a") as file:
                file.write(json.dumps(line) + "\n")
            curve = []
        if (step + 1) % SAVE == 0 or step + 1 == steps:
            trainer.save()


@torch.no_grad()
def evaluate(trainer: Trainer, questions: int) -> dict[str, float]:
    """Share of held-out questions answered right, greedily and to the last token, per kind and in all.

    What is told of a caption counts up to its first wrong token.
    """
    right: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for case in benchmark(questions):
        scene, question = make_scene(case.seed, case.camera), case.question
        frames = scene.render(np.arange(0, scene.seconds, 0.5).tolist(), SIDE).frames
        tokens = trainer.see(torch.from_numpy(frames).unflatten(0, (-1, 2)), SIDE)
        rows = [pack(trainer.tokenizer, [(question.text, question.answer)])]
        scores, labels, _ = trainer.answer(tokens[None], rows, None)
        hits = scores.argmax(-1) == labels
        if question.kind == "caption" and not hits.all():
            told = trainer.tokenizer.decode(labels[: int(hits.int().argmin())])
            right["caption"].append(fact_score(question.answer, told))
        else:
            right[question.kind].append(float(hits.all()))
    table = {kind: sum(hits) / len(hits) for kind, hits in right.items() if hits}
    return table | {"all": sum(map(sum, right.values())) / questions}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for rendered scenes, checkpoints and the curve")
    parser.add_argument("--export", type=Path, help="folder for the finished model")
    parser.add_argument("--resume", action="store_true", help="continue from the last checkpoint in --out")
    parser.add_argument("--init", type=Path, help="folder of an exported model to train further")
    parser.add_argument("--workers", type=int, default=1, help="processes that prepare batches")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--scenes", type=int, default=24000, help="training scenes to render (560 kB each)")
    parser.add_argument("--steps", type=int, nargs=3, default=[1200, 300, 2500], metavar="N", help="of each stage")
    parser.add_argument("--rates", type=float, nargs=3, default=[2e-3, 2e-3, 8e-4], metavar="R", help="learning rates")
    parser.add_argument("--clips", type=int, default=200, help="batches of clips with cached tokens, decoder stage")
    parser.add_argument("--questions", type=int, default=550, help="held-out questions of the last evaluation")
    return parser.parse_args()


def main() -> None:
    args = parse()
    if not args.resume:
        (args.out / "curve.jsonl").unlink(missing_ok=True)
    pool = Pool.of(args.out, args.scenes)
    trainer = Trainer(args.out, torch.device(args.device), args.workers)
    if args.init:
        trainer.start_from(args.init)
    state = trainer.load() if args.resume else None
    for index in range(STAGES.index(trainer.place["stage"]), len(STAGES)):
        run_stage(trainer, pool, STAGES[index], args.steps[index], args.rates[index], args.clips, state)
        state = None
    if args.export:
        export(trainer.model, trainer.tokenizer, args.export)
    print(json.dumps(evaluate(trainer, args.questions), indent=2))


if __name__ == "__main__":
    main()
