"""Ask a video a question from Python. The README shows this code; run it from the project's root.

Example: python examples/quickstart.py
"""

import ipcv

model = ipcv.load("demo")  # or "Qwen/Qwen2-VL-2B-Instruct", or a folder
answer = model.ask("examples/clip.mp4", "What colour is the circle?")
print(answer.answer)
print(f"{answer.savings.encode_flops:.0%} of the uncompressed encoder's FLOPs")

options = ipcv.Options(compressor=ipcv.IPCV(keep=0.5), pruner=None, baseline=True)
for event in model.stream("examples/clip.mp4", "Describe the video.", options):
    if event.event == "token":
        print(event.text, end="", flush=True)
    elif event.event == "final" and (plain := event.answer.savings.baseline):
        print(f"\n{plain.total_speedup:.2f} times as fast as the plain model; the same answer: {plain.same_answer}")
