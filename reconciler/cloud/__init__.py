"""Talks to Huawei Cloud: WorkspaceApp, IMS and IAM.

connect     opens a client from settings
client      one method per API operation
jobs        looks up many jobs with few requests
observe     one refresh for the planner
sending     slots, the brake, retries, auth flows: the only place that sends
settings, credentials, endpoints    from the environment to values
"""
