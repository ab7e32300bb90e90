"""What products take on a CPU, as measured: curves over rows, shipped or calibrated, one table per machine."""

from .current import cpu_name as cpu_name
from .current import current as current
from .current import forget as forget
from .current import key as key
from .current import shipped as shipped
from .curve import Curve as Curve
from .record import Machine as Machine
from .store import directory as directory
from .store import read as read
from .store import write as write
