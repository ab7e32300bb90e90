"""The frozen facts of a report, which print themselves."""

from .compactions import Compaction as Compaction
from .report import Report as Report
from .rows import NUMBER as NUMBER
from .sites import FusedRecord as FusedRecord
from .sites import SiteRecord as SiteRecord
from .sites import Stayed as Stayed
