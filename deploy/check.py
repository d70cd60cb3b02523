"""Checks built manifests for what a schema cannot say: hardening, probes, and that files agree with each other.

Usage: check.py {overlay name} {file} < manifests.yaml. Prints every complaint; exit status 1 when there is any. Writes to {file}
the pods that verb.py makes of these services, for a validator of schemas.
"""

import sys
import tomllib
from urllib.parse import urlsplit

import yaml

import verb

# How long the server lets background tasks end after its calls have (crates/server, life.rs).
BACKGROUND_SECONDS = 10
CONTAINER = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "privileged": False,
    "capabilities": {"drop": ["ALL"]},
}
PROBES = {"startupProbe": "/livez", "livenessProbe": "/livez", "readinessProbe": "/readyz"}
CLUSTER_WIDE = {"Namespace"}
# The schema validator lets a kind that it does not know pass.
KINDS = {
    "ConfigMap",
    "Deployment",
    "Namespace",
    "NetworkPolicy",
    "PersistentVolumeClaim",
    "PodDisruptionBudget",
    "Service",
    "ServiceAccount",
}
NAME = "app.kubernetes.io/name"
# Where witnesses are called: https, and the port of their own where a proxy or the network encrypts.
WITNESS_PORTS = (443, 7305)


class Manifests:
    """All objects of one overlay, by kind and name."""

    def __init__(self, documents):
        self.documents = [d for d in documents if d]
        self.by = {(d["kind"], d["metadata"]["name"]): d for d in self.documents}

    def of(self, kind):
        return [d for d in self.documents if d["kind"] == kind]

    def policies(self, labels):
        """The network policies that hold for pods with these labels."""
        return [p["spec"] for p in self.of("NetworkPolicy") if selects(p["spec"]["podSelector"], labels)]


def selects(selector, labels):
    wanted = selector.get("matchLabels", {}).items()
    among = selector.get("matchExpressions", [])
    return all(labels.get(k) == v for k, v in wanted) and all(
        e["operator"] == "In" and labels.get(e["key"]) in e["values"] for e in among
    )


def wrong(have, want):
    return ((k, have.get(k), v) for k, v in want.items() if have.get(k) != v)


def check(overlay, manifests):
    """Complaints about the whole."""
    if manifests.of("Secret"):
        yield "a Secret is in the manifests; they must only be referred to"
    for kind in {d["kind"] for d in manifests.documents} - KINDS - {"Secret"}:
        yield f"a {kind} is in the manifests; what this script does not know it cannot check"
    namespaces = {d["metadata"]["name"] for d in manifests.of("Namespace")}
    for d in manifests.documents:
        if d["kind"] not in CLUSTER_WIDE and d["metadata"].get("namespace") not in namespaces:
            yield f"{d['kind']} {d['metadata']['name']} is in namespace {d['metadata'].get('namespace')}, not in {namespaces}"
    closed = [p for p in manifests.of("NetworkPolicy") if p["spec"]["podSelector"] == {}]
    if not any(set(p["spec"]["policyTypes"]) == {"Ingress", "Egress"} and not set(p["spec"]) & {"ingress", "egress"} for p in closed):
        yield "no network policy denies everything by default"
    deployments = manifests.of("Deployment")
    names = {d["metadata"]["name"] for d in deployments}
    expected = {"identity", "consent", "audit"} | ({"sandbox"} if overlay == "sandbox" else set())
    if names != expected:
        yield f"the services are {sorted(names)}, expected {sorted(expected)}"
    origins = {c["service"].get("origin", c["service"].get("log_origin")) for c in configs(manifests)} - {None}
    if len(origins) != 1:
        yield f"audit's origin and consent's log_origin differ: {sorted(origins)}"
    for deployment in deployments:
        for complaint in service(manifests, deployment):
            yield f"{deployment['metadata']['name']}: {complaint}"


def service(manifests, deployment):
    """Complaints about one service."""
    name = deployment["metadata"]["name"]
    template = deployment["spec"]["template"]
    pod, labels = template["spec"], template["metadata"]["labels"]
    yield from hardened(pod)
    yield from beside(manifests, name, labels, pod)
    containers = pod["containers"] + pod.get("initContainers", [])
    if len(containers) != 1:
        yield f"{len(containers)} containers, expected one"
    for container in containers:
        yield from running(container)
    config = told(manifests, name, pod)
    if isinstance(config, str):
        yield config
        return
    yield from agrees(config, pod, manifests.by.get(("Service", name)))
    yield from replicated(config, deployment["spec"])
    yield from reaches(manifests, labels, config)
    yield from witnessed(manifests, labels, config)
    yield from operated(manifests, deployment)


def operated(manifests, deployment):
    """Complaints about the pod in which a verb of this service runs."""
    made = verb.pod(deployment, "doctor", ["--extra"])
    pod, labels = made["spec"], made["metadata"]["labels"]
    served = deployment["spec"]["template"]
    for complaint in hardened(pod):
        yield f"verbs: {complaint}"
    (container,) = pod["containers"]
    for key, have, want in wrong(container["securityContext"], CONTAINER):
        yield f"verbs: container securityContext.{key} is {have}, expected {want}"
    name, *config = served["spec"]["containers"][0]["args"]
    if container["args"] != [name, "doctor", *config, "--extra"]:
        yield f"verbs: args are {container['args']}"
    if container["volumeMounts"] != served["spec"]["containers"][0]["volumeMounts"] or pod["volumes"] != served["spec"]["volumes"]:
        yield "verbs: they see other files than the service"
    if manifests.policies(labels) != manifests.policies(served["metadata"]["labels"]):
        yield "verbs: other network policies hold than for the service"
    exposed = manifests.by.get(("Service", name))
    if container.get("ports") or any(not isinstance(p["targetPort"], str) for p in exposed["spec"]["ports"] if exposed):
        yield "verbs: the Service would lead to their pods"


def hardened(pod):
    security = pod.get("securityContext", {})
    for key, have, want in wrong(security, {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}):
        yield f"pod securityContext.{key} is {have}, expected {want}"
    if not security.get("runAsUser"):
        yield "pod securityContext.runAsUser must be a number other than 0"
    for key in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.get(key):
            yield f"{key} is set"
    if pod.get("automountServiceAccountToken") is not False:
        yield "automountServiceAccountToken must be false"
    for volume in pod.get("volumes", []):
        if not set(volume) & {"secret", "configMap", "persistentVolumeClaim"}:
            yield f"volume {volume['name']} is neither secret, configuration nor claim"


def running(container):
    security = container.get("securityContext", {})
    for key, have, want in wrong(security, CONTAINER):
        yield f"container securityContext.{key} is {have}, expected {want}"
    ports = {p["name"] for p in container.get("ports", [])}
    for probe, path in PROBES.items():
        get = container.get(probe, {}).get("httpGet", {})
        if (get.get("path"), get.get("port")) != (path, "admin") or "admin" not in ports:
            yield f"{probe} must GET {path} on the port admin"
    resources = container.get("resources", {})
    for kind in ("requests", "limits"):
        if not {"cpu", "memory"} <= set(resources.get(kind, {})):
            yield f"resources.{kind} must give cpu and memory"
    if container.get("env") or container.get("envFrom"):
        yield "environment variables are set; settings and secrets come from files"
    for mount in container.get("volumeMounts", []):
        if mount["mountPath"].startswith("/etc/") and mount.get("readOnly") is not True:
            yield f"{mount['mountPath']} must be mounted read-only"


def beside(manifests, name, labels, pod):
    """What must stand beside the deployment."""
    account = manifests.by.get(("ServiceAccount", pod.get("serviceAccountName")))
    if not account or account.get("automountServiceAccountToken") is not False:
        yield "no service account of its own without a token"
    for kind in ("PodDisruptionBudget", "Service"):
        found = manifests.by.get((kind, name), {}).get("spec", {}).get("selector", {})
        if not found or not selects(found if kind != "Service" else {"matchLabels": found}, labels):
            yield f"no {kind} selects its pods"
    own = [p for p in manifests.policies(labels) if p["podSelector"].get("matchLabels", {}).get(NAME) == name]
    if not any({"Ingress", "Egress"} <= set(p["policyTypes"]) for p in own):
        yield "no network policy of its own for both directions"


def told(manifests, name, pod):
    """Its configuration, or what is wrong with it."""
    args = pod["containers"][0].get("args", [])
    if len(args) != 3 or args[0] != name or args[1] != "--config":
        return f"args are {args}, expected [{name}, --config, file]"
    folder, _, file = args[2].rpartition("/")
    volumes = {v["name"]: v for v in pod["volumes"]}
    for mount in pod["containers"][0]["volumeMounts"]:
        if mount["mountPath"] == folder:
            held = volumes[mount["name"]]["configMap"]["name"]
            data = manifests.by.get(("ConfigMap", held), {}).get("data", {})
            return tomllib.loads(data[file]) if file in data else f"the ConfigMap {held} holds no {file}"
    return f"{folder} is not mounted"


def configs(manifests):
    for held in manifests.of("ConfigMap"):
        yield from (tomllib.loads(text) for text in held["data"].values())


def files(config):
    """Every file that a configuration names."""
    yield from config["server"].get("tls", {}).values()
    database = config.get("database", {})
    yield from (database[k] for k in ("root_certificate", "password_file") if k in database)
    if "directory" in config.get("secrets", {}):
        yield config["secrets"]["directory"] + "/"
    for value in [database.get("url", ""), *config["service"].values()]:
        if isinstance(value, str) and value.startswith("sqlite:"):
            yield value.removeprefix("sqlite:")


def agrees(config, pod, exposed):
    """Ports, files and times are the same in the configuration and in the pod."""
    server, container = config["server"], pod["containers"][0]
    ports = {p["name"]: p["containerPort"] for p in container["ports"]}
    for port, key in (("rpc", "listen"), ("admin", "admin_listen")):
        if server[key] != f"0.0.0.0:{ports.get(port)}":
            yield f"server.{key} is {server[key]}, and the port {port} is {ports.get(port)}"
    tiles = config["service"].get("tiles_listen")
    if tiles and tiles != f"0.0.0.0:{ports.get('tiles')}":
        yield f"service.tiles_listen is {tiles}, and the port tiles is {ports.get('tiles')}"
    if "tls" not in server or server.get("insecure_plaintext"):
        yield "it would serve plaintext"
    # Callers and network policies name one port, whether of the service or of its pods.
    for port in exposed["spec"]["ports"] if exposed else []:
        if port["port"] != ports.get(port["targetPort"]):
            yield f"the Service has port {port['port']}, its pods {ports.get(port['targetPort'])}"
    mounts = [m["mountPath"] + "/" for m in container["volumeMounts"]]
    for file in files(config):
        if not any(file.startswith(mount) for mount in mounts):
            yield f"{file} is on no volume"
    grace = pod.get("terminationGracePeriodSeconds", 30)
    pause = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
    needed = pause + server.get("drain_seconds", 20) + BACKGROUND_SECONDS
    if pause < 1 or grace <= needed:
        yield f"it may take {needed} s to end, of which {pause} before it drains, and has {grace}"


def replicated(config, spec):
    replicas, strategy = spec["replicas"], spec["strategy"]["type"]
    urls = [config.get("database", {}).get("url", ""), *map(str, config["service"].values())]
    # Without a database its state is its memory, of which there must be one as well.
    if any(url.startswith("sqlite:") for url in urls) or "database" not in config:
        if (replicas, strategy) != (1, "Recreate"):
            yield f"{replicas} replicas and {strategy}, but what it keeps is for one process: 1 and Recreate"
        return
    if replicas < 2 or strategy != "RollingUpdate":
        yield f"{replicas} replicas and {strategy}, expected at least 2 and RollingUpdate"
    if not spec["template"]["spec"].get("topologySpreadConstraints"):
        yield "its replicas may all be on one node"
    if "root_certificate" not in config["database"]:
        yield "the way to its database is not TLS"


def reaches(manifests, labels, config):
    """Each peer is let through, on both sides."""
    for peer, url in config.get("peers", {}).items():
        host, port = urlsplit(url).hostname, urlsplit(url).port
        if not url.startswith("https://"):
            yield f"peers.{peer} is not https"
        target = manifests.by.get(("Deployment", host))
        if not target:
            if not allowed_outside(manifests.policies(labels), "sammati-providers", port):
                yield f"no network policy lets it out to {host}:{port}"
            continue
        theirs = target["spec"]["template"]["metadata"]["labels"]
        if not allowed(manifests.policies(labels), "egress", "to", theirs, {port}):
            yield f"no network policy lets it out to {host}:{port}"
        if not allowed(manifests.policies(theirs), "ingress", "from", labels, {port, "rpc"}):
            yield f"no network policy lets it in to {host}:{port}"


def witnessed(manifests, labels, config):
    """A log's witnesses are let through: after a start it signs nothing before they were heard."""
    if "keys_database" in config["service"]:
        for port in WITNESS_PORTS:
            if not allowed_outside(manifests.policies(labels), "sammati-witnesses", port):
                yield f"no network policy lets it out to witnesses on {port}"


def allowed_outside(policies, label, port):
    """Whether pods may call this port in namespaces of others that carry the label."""
    return any(
        any(s.get("namespaceSelector", {}).get("matchLabels") == {label: "true"} for s in rule["to"])
        and any(p["port"] == port for p in rule["ports"])
        for policy in policies
        for rule in policy.get("egress", [])
    )


def allowed(policies, way, side, labels, ports):
    rules = [rule for policy in policies for rule in policy.get(way, [])]
    return any(
        any("podSelector" in s and "namespaceSelector" not in s and selects(s["podSelector"], labels) for s in rule[side])
        and any(p["port"] in ports for p in rule["ports"])
        for rule in rules
    )


def main():
    overlay, file = sys.argv[1:]
    manifests = Manifests(yaml.safe_load_all(sys.stdin))
    complaints = list(check(overlay, manifests))
    pods = [verb.pod(d, "fsck", []) for d in manifests.of("Deployment")]
    with open(file, "w", encoding="utf-8") as written:
        yaml.safe_dump_all(pods, written)
    for complaint in complaints:
        print(f"{overlay}: {complaint}", file=sys.stderr)
    sys.exit(1 if complaints else 0)


if __name__ == "__main__":
    main()
