#!/bin/sh
# Make the secrets of an installation, once, in the folder that is the argument. Each is a file that its
# service reads; the volume is mounted into the services of this installation alone.
set -eu
cd "$1"
# Nothing has read them before this file is there: a run that was interrupted is repeated.
[ -e made ] && exit 0
umask 022
random() { head -c 24 /dev/urandom | base64 | tr '+/' '-_'; }
database=$(random) broker=$(random) objects=$(random)
mkdir -p rabbitmq s3
printf %s "$database" > postgres-password
printf 'postgresql://clamor:%s@postgres:5432/clamor' "$database" > database-url
printf 'amqp://clamor:%s@rabbitmq:5672' "$broker" > amqp-url
printf 'default_user = clamor\ndefault_pass = %s\n' "$broker" > rabbitmq/user.conf
printf %s "$objects" > s3-secret
printf '{"identities": [{"name": "clamor", "credentials": [{"accessKey": "clamor", "secretKey": "%s"}], "actions": ["Admin", "Read", "Write", "List"]}]}' "$objects" > s3/identities.json
random > key-pepper
random > secret-keys
random > grafana-password
: > made
