"""What is sparse in a program, and the program with its sparse parts handed over."""

from . import rules as rules  # fills the tables
from .facts import CONST as CONST
from .facts import LIVE as LIVE
from .facts import ZERO as ZERO
from .facts import Fact as Fact
from .jaxprs import Program as Program
from .jaxprs import Variable as Variable
from .jaxprs import bind as bind
from .jaxprs import evaluate as evaluate
from .jaxprs import trace as trace
from .propagate import Facts as Facts
from .propagate import propagate as propagate
from .rewrite import Inner as Inner
from .rewrite import Rewritten as Rewritten
from .rewrite import rewrite as rewrite
from .sites import Site as Site
from .sites import Unmatched as Unmatched
from .stage import Entry as Entry
from .stage import Origins as Origins
from .stage import entries_of as entries_of
from .stage import weight_entries as weight_entries
from .unroll import Loop as Loop
from .unroll import unrolled as unrolled
