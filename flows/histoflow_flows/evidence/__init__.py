"""What a flow run's page shows of the work under way: its lines, its progress, its curves, its results.

Each is one card (a Prefect artifact), created once and then updated in place. Outside a flow run, nothing
here does anything.
"""

from histoflow_flows.evidence.report import of_report
from histoflow_flows.evidence.training import of_training
from histoflow_flows.evidence.work import of_work

__all__ = ["of_report", "of_training", "of_work"]
