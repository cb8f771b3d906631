"""Runs activations as containers of one Kubernetes cluster: the real implementation of ``ports.Runtime``.

``access`` finds the credentials, ``api`` speaks to the API server (vendor errors end there), ``names``, ``objects``,
``workload`` and ``policy`` say what an activation consists of, ``marks`` and ``gate`` make a stale worker harmless,
``pods`` watches, ``explain`` says in words what is wrong with a pod, ``ending`` ends one, ``output`` reads and keeps
what it wrote, ``runtime`` puts them together; ``inspect`` and ``trial`` find out whether a cluster will do. Imported by
bootstrap only where a cluster is registered: the client costs 10 MB.
"""
