"""Data: from a name, a file or a folder to arrays that a network can be trained on.

    import gradnet as gn

    dataset = gn.data.load("heart.csv", target="AHD")  # or "digits", a folder of IDX files, ...
    dataset.task, dataset.classes, dataset.notes  # what was found, and remarks on it
    parts = dataset.split(validation=0.1, test=0.2, seed=0)  # or test="heart_test.csv"
    parts.train.X, parts.train.y  # float32 (n, k); int64 codes, or float32 numbers (n,)

Everything that training needs to know of the training rows is in `parts.preprocessing`: it makes
features of other files, and turns outputs back into class names or into the target's units.

    text = parts.preprocessing.to_json()  # travels inside the model file
    preprocessing = gn.data.Preprocessing.from_json(text)
    part = preprocessing.read("patients.csv")  # part.X; part.y where the file has the target
    preprocessing.decode(codes)  # "Yes", "No", ...

What happens to a table's columns:

- Numbers with many distinct values become normal scores (the standard normal quantile of their
  rank), others (x - mean) / deviation, cut off at 10. A missing number becomes 0, and a column
  with missing numbers in training gets a second feature that flags them.
- Categories (text, booleans) become one feature each, missing included; past 64 the rare ones
  are grouped. With `embed=m`, columns of more than m categories become codes for an embedding.
- An unnamed column that numbers the rows is left out, so are columns with one value, with
  nothing, or with a different text in every row. Dates are refused. Every such thing is told in
  `notes`, and logged by the logger "gradnet.data".
- A regression's target is standardised; rows without a target are left out.

Images are divided by the largest value of their dtype and standardised as a whole.

Tables larger than memory come in batches, with the same preprocessing:

    batches = gn.data.stream("big.parquet", batch_size=1024, target="clicked", validation=0.05)
    for X, y in batches: ...  # each pass is another epoch, in another order

All random choices follow from `seed` alone, on every platform.
"""

from gradnet.data.builtin import BUILTIN
from gradnet.data.dataset import Dataset, Parts, load
from gradnet.data.preprocessing import Embedding, Part, Preprocessing
from gradnet.data.splits import folds, split
from gradnet.data.streaming import Batch, Stream, stream, stream_with
from gradnet.data.table import Column, Images, Table

__all__ = [
    "BUILTIN",
    "Batch",
    "Column",
    "Dataset",
    "Embedding",
    "Images",
    "Part",
    "Parts",
    "Preprocessing",
    "Stream",
    "Table",
    "folds",
    "load",
    "split",
    "stream",
    "stream_with",
]
