"""What the jobs of ``.gitlab-ci.yml`` call (``make``), and what stands in for GitLab on one machine."""
