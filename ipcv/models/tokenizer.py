"""Read a model's tokenizer, and see that its chat template can ask about a video."""

from pathlib import Path

from transformers import AutoTokenizer, PretrainedConfig, PreTrainedTokenizerBase

from ipcv.architecture.visual import VisualSpan
from ipcv.errors import ModelError, first_line
from ipcv.models.guard.config import check_tokenizer
from ipcv.models.guard.folder import read_json
from ipcv.models.prompt import build_prompt
from ipcv.models.source import WHAT_WORKS


def read_processor(folder: Path) -> str | None:
    """The name of transformers' processor class in the files of `folder`, if they name one."""
    for name in ("processor_config", "preprocessor_config", "video_preprocessor_config", "tokenizer_config"):
        path = folder / f"{name}.json"
        values = read_json(path) if path.is_file() else {}
        if "processor_class" in values:
            return str(values["processor_class"])
    return None


def read_tokenizer(folder: Path, config: PretrainedConfig, processor: str | None) -> PreTrainedTokenizerBase:
    """The tokenizer of the model in `folder`. Raises `ModelError` if its chat template cannot ask about a video."""
    check_tokenizer(folder, config)
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            folder, config=config, local_files_only=True, trust_remote_code=False
        )
        if (template := folder / "chat_template.json").is_file():  # the processor's template, which goes first
            tokenizer.chat_template = read_json(template)["chat_template"]
    except Exception as error:  # the tokenizers library has no class of its own
        raise ModelError(f"cannot load the tokenizer in {str(folder)!r}: {first_line(error)}") from error
    try:
        shown = VisualSpan(kind="video", grid=(1, 2, 2), times=(0.0,), tokens=1)
        build_prompt(tokenizer, config, "?", [shown], processor=processor)
    except Exception as error:  # a template is a program
        raise ModelError(
            f"the chat template in {str(folder)!r} cannot ask about a video: {first_line(error)}; {WHAT_WORKS}"
        ) from error
    return tokenizer
