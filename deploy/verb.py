#!/usr/bin/env python3
"""Runs one of the binary's verbs in a pod made as the service's own are: its image, files, keys, user, way through the network.

Usage: verb.py [-n NAMESPACE] [--image IMAGE] SERVICE VERB [what the verb takes, without --config]
  verb.py identity restore --from /var/lib/sammati-backups/identity-20261201T0300 --replace --by "Asha Rao"
  verb.py --image registry.example/sammati:0.2.0 identity doctor

For what `kubectl exec` cannot do: where the service is stopped there is no pod of it. Prints what the verb prints, and ends
with what it ends with. Needs kubectl, and may be stopped and looked for again: the pod goes on, and is deleted only once all
that it said was read.
"""

import argparse
import copy
import json
import subprocess
import sys
import time

# What a pod has because somebody calls it. Without ports no Service leads to it, though its labels are the service's.
SERVING = ("ports", "startupProbe", "livenessProbe", "readinessProbe", "lifecycle")
# How long it may take until the pod runs: nodes are found, volumes attached, images fetched.
PATIENCE = 300


def pod(deployment, verb, arguments, image=None):
    """The pod for a verb of the service that this Deployment serves."""
    template = copy.deepcopy(deployment["spec"]["template"])
    spec = template["spec"]
    # It is not one of the replicas that are spread.
    spec.pop("topologySpreadConstraints", None)
    spec["restartPolicy"] = "Never"
    (container,) = spec["containers"]
    for key in SERVING:
        container.pop(key, None)
    service, *config = container["args"]
    container["args"] = [service, verb, *config, *arguments]
    container["image"] = image or container["image"]
    metadata = {
        "generateName": f"{service}-{verb}-",
        "namespace": deployment["metadata"]["namespace"],
        # The network policies go by these.
        "labels": template["metadata"]["labels"],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def in_the_way(deployment):
    """Why such a pod could not run now, if that is seen."""
    claims = [v for v in deployment["spec"]["template"]["spec"]["volumes"] if "persistentVolumeClaim" in v]
    if claims and deployment.get("status", {}).get("replicas", 0) > 0:
        name, namespace = deployment["metadata"]["name"], deployment["metadata"]["namespace"]
        return (
            f"a pod of {name} has its volumes. What may be done while it serves: kubectl -n {namespace} exec deployment/{name} -- "
            f"/sammati {name} …; for the rest stop it first: kubectl -n {namespace} scale deployment {name} --replicas=0"
        )
    return None


class Kubectl:
    def __init__(self, namespace):
        self.command = ["kubectl", "-n", namespace]

    def ask(self, *arguments, given=None):
        done = subprocess.run([*self.command, *arguments], input=given, capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"kubectl {arguments[0]}: {done.stderr.strip()}")
        return done.stdout

    def get(self, *what):
        return json.loads(self.ask("get", *what, "-o", "json"))

    def run(self, wanted):
        """Runs the pod to its end; what the verb ended with."""
        name = self.ask("create", "-f", "-", "-o", "name", given=json.dumps(wanted)).strip()
        print(f"{name} does it", file=sys.stderr)
        until = time.monotonic() + PATIENCE
        while self.get(name)["status"].get("phase") in (None, "Pending"):
            if time.monotonic() > until:
                sys.exit(f"{name} does not begin; it is left there: kubectl describe {name} says why")
            time.sleep(1)
        read = subprocess.run([*self.command, "logs", "--follow", name]).returncode
        while (status := self.get(name)["status"])["phase"] not in ("Succeeded", "Failed"):
            time.sleep(1)
        if read != 0:
            sys.exit(f"{name} has ended, and is left there for you to read its log")
        ended = status.get("containerStatuses", [{}])[0].get("state", {}).get("terminated")
        self.ask("delete", name)
        return ended["exitCode"] if ended else 1


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-n", "--namespace", default="sammati")
    parser.add_argument("--image", help="another than the service's, as the next release's for its doctor")
    parser.add_argument("service", choices=["identity", "consent", "audit"])
    parser.add_argument("verb")
    parser.add_argument("arguments", nargs=argparse.REMAINDER)
    told = parser.parse_args()
    kubectl = Kubectl(told.namespace)
    deployment = kubectl.get("deployment", told.service)
    if why := in_the_way(deployment):
        sys.exit(why)
    sys.exit(kubectl.run(pod(deployment, told.verb, told.arguments, told.image)))


if __name__ == "__main__":
    main()
