"""Files: models and tensors as safetensors, columns as tables, all written atomically."""

from gradnet.io.columns import save_columns as save_columns
from gradnet.io.files import replacing as replacing
from gradnet.io.models import load as load
from gradnet.io.models import save as save
from gradnet.io.tensors import load_tensors as load_tensors
from gradnet.io.tensors import save_tensors as save_tensors
