"""The recipe of the vendor's article on joining two models, as a program that runs.

Source: community.hailo.ai, "Join and compile two models that share the same input". Its listing is pseudo code; what
was mended: the class is `ClientRunner`, the constructor's keyword is `har=` (as in DFC 3.26 and later), the string of
the model script is closed, and the steps that the article only names (parsing, optimizing, saving, compiling) are
written out. What was changed: the import. With the DFC installed, `from hailo_sdk_client import …` runs the same code.

    python examples/article.py [DIR]

DIR (default: `article`) receives the HARs and the HEF.
"""

import sys
from pathlib import Path

import onnx

from hefjoin.emulator import ClientRunner, JoinAction
from hefjoin.examples.photos import photo_crops
from hefjoin.examples.resnet import build_resnet18

folder = Path(sys.argv[1] if len(sys.argv) > 1 else "article")
folder.mkdir(parents=True, exist_ok=True)

model_name_1 = "resnet_v1_18"
model_name_2 = "resnet_v1_18"
hailo_model_har_name_1 = str(folder / f"{model_name_1}_1_hailo_model.har")
hailo_model_har_name_2 = str(folder / f"{model_name_2}_2_hailo_model.har")

# Parse each model (the networks have seeded random weights: the zoo's are not in any package)
for seed, model_name, har_name in (
    (1, model_name_1, hailo_model_har_name_1),
    (2, model_name_2, hailo_model_har_name_2),
):
    onnx_path = folder / f"{model_name}_{seed}.onnx"
    onnx.save(build_resnet18(seed), onnx_path)
    runner = ClientRunner(hw_arch="hailo8")
    runner.translate_onnx_model(str(onnx_path), model_name)
    runner.save_har(har_name)

# Create runner
runner1 = ClientRunner(hw_arch="hailo8", har=hailo_model_har_name_1)
runner2 = ClientRunner(hw_arch="hailo8", har=hailo_model_har_name_2)

# Join runner
runner1.join(
    runner2,
    scope1_name={"resnet_v1_18": "resnet_v1_18_1"},
    scope2_name={"resnet_v1_18": "resnet_v1_18_2"},
    join_action=JoinAction.AUTO_JOIN_INPUTS,
)

# Apply model script. The second line names an input that the join took away: the emulator accepts it because it
# equals the first, and warns; what the DFC answers is not known, so hefjoin itself never writes it.
alls_joined = """
resnet_v1_18_1/normalization1 = normalization([123.675, 116.28, 103.53], [58.395, 57.12, 57.375], resnet_v1_18_1/input_layer1)
resnet_v1_18_2/normalization1 = normalization([123.675, 116.28, 103.53], [58.395, 57.12, 57.375], resnet_v1_18_2/input_layer1)
quantization_param({*output_layer*}, precision_mode=a8_w8)
"""  # noqa: E501
runner1.load_model_script(alls_joined)

# Call Optimize to perform the optimization process
runner1.optimize(photo_crops(224, 64, seed=7))

# Save the result state to a Quantized HAR file
quantized_model_har_path = str(folder / f"{runner1.model_name}_quantized_model.joined.har")
runner1.save_har(quantized_model_har_path)

# Compile
hef = runner1.compile()
hef_path = folder / f"{runner1.model_name}.emulated.hef"
hef_path.write_bytes(hef)
print(hef_path)
