"""Which kernel, which layout: a model of time, and the choice by it."""

from .calibration import calibrate as calibrate
from .choose import Chooser as Chooser
from .choose import implementations as implementations
from .choose import is_empty as is_empty
from .roofline import Roofline as Roofline
from .roofline import roofline as roofline
from .tuning import tune as tune
