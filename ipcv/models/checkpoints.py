"""The published models of each family, and how much memory their weights take. Imports no torch.

`KNOWN` has the families of `ipcv.families.FAMILIES` that answer questions. To add a checkpoint, add its sizes to
`examples/count_parameters.py`, and the line that the script prints to this file.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Checkpoint:
    """A published model and its number of parameters."""

    name: str  # of its repository
    parameters: int
    quantised: int  # weights of the language model's linear layers: the ones that 4 bits quantise

    @property
    def bytes_16bit(self) -> int:
        """Bytes of all weights in numbers of 16 bits."""
        return 2 * self.parameters

    @property
    def bytes_4bit(self) -> int:
        """Bytes of all weights with `quant="4bit"`.

        NF4 with quantised scales takes half a byte for each weight, a byte for each block of 64 weights, and four
        bytes for each 256 blocks. Vision encoder, embeddings, head, norms and experts stay at 16 bits.
        """
        four_bits = self.quantised // 2 + self.quantised // 64 + 4 * (self.quantised // (64 * 256))
        return four_bits + 2 * (self.parameters - self.quantised)


@dataclass(frozen=True, kw_only=True)
class KnownFamily:
    """A family that answers questions, as the list of models shows it."""

    title: str
    checkpoints: tuple[Checkpoint, ...]
    tested_with: str = "tiny random weights"  # weights that the tests of every family run


DEMO_CHECKPOINT = Checkpoint("demo", 7_388_992, 2_752_512)
DEMO_FAMILY, DEMO_TESTED_WITH = "qwen2_vl", "trained weights"

KNOWN: dict[str, KnownFamily] = {
    "qwen2_vl": KnownFamily(
        title="Qwen2-VL",
        checkpoints=(
            Checkpoint("Qwen/Qwen2-VL-2B-Instruct", 2_208_985_600, 1_310_195_712),
            Checkpoint("Qwen/Qwen2-VL-7B-Instruct", 8_291_375_616, 6_525_288_448),
            Checkpoint("Qwen/Qwen2-VL-72B-Instruct", 73_405_560_320, 70_212_648_960),
        ),
    ),
    "qwen2_5_vl": KnownFamily(
        title="Qwen2.5-VL",
        checkpoints=(
            Checkpoint("Qwen/Qwen2.5-VL-3B-Instruct", 3_754_622_976, 2_774_532_096),
            Checkpoint("Qwen/Qwen2.5-VL-7B-Instruct", 8_292_166_656, 6_525_288_448),
            Checkpoint("Qwen/Qwen2.5-VL-32B-Instruct", 33_452_718_336, 31_205_621_760),
            Checkpoint("Qwen/Qwen2.5-VL-72B-Instruct", 73_410_777_344, 70_212_648_960),
        ),
    ),
    "qwen3_vl": KnownFamily(
        title="Qwen3-VL",
        checkpoints=(
            Checkpoint("Qwen/Qwen3-VL-2B-Instruct", 2_127_532_032, 1_409_286_144),
            Checkpoint("Qwen/Qwen3-VL-4B-Instruct", 4_437_815_808, 3_633_315_840),
            Checkpoint("Qwen/Qwen3-VL-8B-Instruct", 8_767_123_696, 6_945_767_424),
            Checkpoint("Qwen/Qwen3-VL-32B-Instruct", 33_357_390_064, 31_205_621_760),
        ),
    ),
    "qwen3_vl_moe": KnownFamily(
        title="Qwen3-VL, mixture of experts",
        checkpoints=(
            Checkpoint("Qwen/Qwen3-VL-30B-A3B-Instruct", 31_070_754_032, 905_969_664),
            Checkpoint("Qwen/Qwen3-VL-235B-A22B-Instruct", 235_670_022_896, 6_702_497_792),
        ),
    ),
    "internvl": KnownFamily(
        title="InternVL3",
        checkpoints=(
            Checkpoint("OpenGVLab/InternVL3-1B-hf", 938_193_024, 357_826_560),
            Checkpoint("OpenGVLab/InternVL3-2B-hf", 2_088_957_440, 1_310_195_712),
            Checkpoint("OpenGVLab/InternVL3-8B-hf", 7_944_373_760, 6_525_288_448),
            Checkpoint("OpenGVLab/InternVL3-14B-hf", 15_117_256_704, 13_212_057_600),
            Checkpoint("OpenGVLab/InternVL3-38B-hf", 38_388_164_992, 31_205_621_760),
            Checkpoint("OpenGVLab/InternVL3-78B-hf", 78_408_318_336, 70_212_648_960),
        ),
    ),
    "qwen3_5": KnownFamily(
        title="Qwen3.5",
        checkpoints=(
            Checkpoint("Qwen/Qwen3.5-0.8B", 852_985_920, 497_025_024),
            Checkpoint("Qwen/Qwen3.5-2B", 2_213_241_664, 1_371_537_408),
            Checkpoint("Qwen/Qwen3.5-4B", 4_539_265_536, 3_565_158_400),
            Checkpoint("Qwen/Qwen3.5-9B", 9_409_813_744, 6_912_212_992),
            Checkpoint("Qwen/Qwen3.5-27B", 27_356_728_560, 24_326_963_200),
        ),
    ),
    "qwen3_5_moe": KnownFamily(
        title="Qwen3.5, mixture of experts",
        checkpoints=(
            Checkpoint("Qwen/Qwen3.5-35B-A3B", 35_107_181_936, 1_405_091_840),
            Checkpoint("Qwen/Qwen3.5-122B-A10B", 122_562_817_776, 4_567_597_056),
            Checkpoint("Qwen/Qwen3.5-397B-A17B", 396_802_360_816, 7_612_661_760),
        ),
    ),
    "glm4v": KnownFamily(
        title="GLM-4.1V",
        checkpoints=(Checkpoint("zai-org/GLM-4.1V-9B-Thinking", 10_292_777_472, 8_157_921_280),),
    ),
    "glm4v_moe": KnownFamily(
        title="GLM-4.5V, mixture of experts",
        checkpoints=(Checkpoint("zai-org/GLM-4.5V", 107_710_927_360, 5_929_435_136),),
    ),
    "glm46v": KnownFamily(title="GLM-4.6V", checkpoints=()),  # its published models are of the two families above
    "llava_onevision": KnownFamily(
        title="LLaVA-OneVision",
        checkpoints=(
            Checkpoint("llava-hf/llava-onevision-qwen2-0.5b-ov-hf", 893_675_552, 357_826_560),
            Checkpoint("llava-hf/llava-onevision-qwen2-7b-ov-hf", 8_030_807_584, 6_525_288_448),
            Checkpoint("llava-hf/llava-onevision-qwen2-72b-ov-hf", 73_181_570_592, 70_212_648_960),
        ),
    ),
    "smolvlm": KnownFamily(
        title="SmolVLM2",
        checkpoints=(
            Checkpoint("HuggingFaceTB/SmolVLM2-256M-Video-Instruct", 256_484_928, 106_168_320),
            Checkpoint("HuggingFaceTB/SmolVLM2-500M-Video-Instruct", 507_482_304, 314_572_800),
            Checkpoint("HuggingFaceTB/SmolVLM2-2.2B-Instruct", 2_246_784_880, 1_610_612_736),
        ),
    ),
    "gemma3": KnownFamily(
        title="Gemma 3",
        checkpoints=(
            Checkpoint("google/gemma-3-4b-it", 4_300_079_472, 3_208_642_560),
            Checkpoint("google/gemma-3-12b-it", 12_187_325_040, 10_758_389_760),
            Checkpoint("google/gemma-3-27b-it", 27_432_406_640, 25_598_361_600),
        ),
    ),
}
