"""Writing the trained demo model as a folder that transformers loads."""

import json
from copy import deepcopy
from pathlib import Path

from demo_data import SIDE, SIDES
from demo_vision import MEAN, MERGE, PATCH, STD
from transformers import PreTrainedTokenizerFast, Qwen2VLForConditionalGeneration


def export(model: Qwen2VLForConditionalGeneration, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write the model in half precision as a folder that `from_pretrained` loads."""
    folder.mkdir(parents=True, exist_ok=True)
    deepcopy(model).half().save_pretrained(folder)
    tokenizer.save_pretrained(folder, save_jinja_files=False)
    cell = PATCH * MERGE
    settings = {
        "image_processor_type": "Qwen2VLImageProcessor",
        "processor_class": "Qwen2VLProcessor",
        "min_pixels": min(SIDES) ** 2,
        "max_pixels": SIDE * (SIDE + cell // 2),  # room for rounding
        "patch_size": PATCH,
        "temporal_patch_size": 2,
        "merge_size": MERGE,
        "image_mean": MEAN,
        "image_std": STD,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(settings, indent=2) + "\n")
