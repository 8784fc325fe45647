"""`python -m lightcurver_ops.airflow.health COMPONENT`: whether a component is well, for a container's health check.

What `airflow jobs check` says too, without the seconds that importing Airflow takes of a core each time.
"""

import json
import os
import sys
import urllib.request

COMPONENTS = ("api-server", "scheduler", "triggerer", "dag_processor")
_TIMEOUT_S = 15.0


def problem(component: str, execution_url: str | None) -> str | None:
    """What is wrong with a component; None: nothing.

    Args:
        component: one of COMPONENTS; api-server is well when it answers.
        execution_url: of the execution API, which the API server has beside its health.
    """
    if component not in COMPONENTS:
        return f"there is no component '{component}'; there are {', '.join(COMPONENTS)}"
    if not execution_url:
        return "AIRFLOW__CORE__EXECUTION_API_SERVER_URL is not set"
    url = execution_url.rstrip("/").removesuffix("/execution") + "/api/v2/monitor/health"
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as answer:
            health = json.load(answer)
    except (OSError, ValueError) as error:
        return f"the API server does not answer: {error}"
    if component == "api-server":
        return None
    state = health.get(component) or {}
    if state.get("status") == "healthy":
        return None
    return (
        f"{component} is {state.get('status')}; last heard of: {state.get(f'latest_{component}_heartbeat')}"
    )


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(f"health: give one of {', '.join(COMPONENTS)}")
    if said := problem(sys.argv[1], os.environ.get("AIRFLOW__CORE__EXECUTION_API_SERVER_URL")):
        sys.exit(f"health: {said}")
