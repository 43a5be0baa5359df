"""The variables that say which region and which project; apart from the settings, so that they need no client."""

REGION_VARIABLES = ("IMGCTL_REGION", "HW_REGION_NAME")
PROJECT_VARIABLES = ("IMGCTL_PROJECT_ID", "HW_PROJECT_ID", "HUAWEICLOUD_SDK_PROJECT_ID")
