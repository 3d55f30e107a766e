"""A GitLab for one machine: a bare repository whose hook runs what was pushed, as ``.gitlab-ci.yml`` says.

gitlab-ci-local reads the file and executes the jobs. What it ignores is here: manual jobs that block, locks
(``resource_group``), ``retry``, ``timeout``, ``id_tokens``, and a record of each pipeline. Folder of a project:

    project.json     {"bare", "issuer", "path", "prepared", "variables"}: what GitLab's settings would say
    pipelines/<id>.json, jobs/<id>/<job>.log, builds/<id>/<job>/, artifacts/<id>/<job>/, locks/<name>.json
"""
