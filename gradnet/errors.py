"""The errors that gradnet raises, each also an instance of the built-in error users expect."""


class GradnetError(Exception):
    """Base of every error that gradnet raises on purpose."""


class ShapeError(GradnetError, ValueError):
    """Shapes or axes that do not fit the operation."""


class AxisError(ShapeError, IndexError):
    """An axis that a tensor does not have."""


class DTypeError(GradnetError, TypeError):
    """A dtype that the operation does not take."""


class DeviceError(GradnetError, RuntimeError):
    """A device or backend that is unknown, absent, or mixed with another."""


class GraphError(GradnetError, RuntimeError):
    """A derivative that cannot be taken: a freed graph, a changed array, a missing seed."""


class CaptureError(GradnetError, RuntimeError):
    """A function that cannot be recorded once and replayed."""


class DataError(GradnetError, ValueError):
    """Data, targets or files that cannot be used as they are."""


class TrainingError(GradnetError, RuntimeError):
    """A training run that cannot go on, such as one whose loss is no longer finite."""


class ExportError(GradnetError, ValueError):
    """A model that the format of a file cannot express."""
