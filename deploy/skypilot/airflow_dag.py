"""Launches a SkyPilot task from Airflow every night, as a service account, and takes the cluster down afterwards.

The task, `training.yaml`, is in the same directory as this file. It needs two Airflow variables: `skypilot_endpoint` is the
address of the gateway, and `skypilot_token` is a SkyAuth token. Airflow masks a variable with `token` in its name. The worker
needs `pip install skypilot==0.14.1`.
"""

import datetime
from pathlib import Path

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG

# The token is only in the environment, not in a command line, log or file.
ENVIRONMENT = {
    "SKYPILOT_API_SERVER_ENDPOINT": "{{ var.value.skypilot_endpoint }}",
    "SKYPILOT_SERVICE_ACCOUNT_TOKEN": "{{ var.value.skypilot_token }}",
}

with DAG("train_nightly", schedule="@daily", start_date=datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC), catchup=False):
    launch = BashOperator(
        task_id="launch",
        bash_command="sky launch --yes --cluster nightly training.yaml",
        cwd=str(Path(__file__).parent),
        env=ENVIRONMENT,
        append_env=True,
    )
    down = BashOperator(
        task_id="down",
        bash_command="sky down --yes nightly",
        env=ENVIRONMENT,
        append_env=True,
        trigger_rule="all_done",  # also if the launch failed
    )
    launch >> down
