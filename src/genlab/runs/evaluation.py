"""The path that saved configs name; see :mod:`genlab.metrics.evaluation`."""

from genlab.metrics.evaluation import Evaluation as Evaluation
