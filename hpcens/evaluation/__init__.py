"""Judge a result against labels: what members and ensemble are worth, told with intervals."""

from hpcens.evaluation.calibrating import calibrate as calibrate
from hpcens.evaluation.calibration import Calibrated as Calibrated
from hpcens.evaluation.evaluation import Evaluation as Evaluation
from hpcens.evaluation.evaluation import Score as Score
from hpcens.evaluation.judging import Question as Question
from hpcens.evaluation.judging import judge as judge
from hpcens.evaluation.losses import By as By
from hpcens.evaluation.parts import Aim as Aim
from hpcens.evaluation.selecting import Method as Method
from hpcens.evaluation.selecting import Wish as Wish
from hpcens.evaluation.selecting import select as select
from hpcens.evaluation.selection import Selection as Selection
