"""imgctl: a declarative reconciler for the private images of Huawei Cloud Workspace Application Streaming."""

__version__ = "0.1.0"
