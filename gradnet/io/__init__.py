"""Files: models as safetensors and ONNX, weights as PyTorch has them, columns as tables."""

from gradnet.io.columns import save_columns as save_columns
from gradnet.io.files import replacing as replacing
from gradnet.io.models import load as load
from gradnet.io.models import save as save
from gradnet.io.onnx_export import to_onnx as to_onnx
from gradnet.io.tensors import load_tensors as load_tensors
from gradnet.io.tensors import save_tensors as save_tensors
from gradnet.io.torch_state import from_torch_state as from_torch_state
from gradnet.io.torch_state import load_torch_state as load_torch_state
from gradnet.io.torch_state import save_torch_state as save_torch_state
from gradnet.io.torch_state import to_torch_state as to_torch_state
