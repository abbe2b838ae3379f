# shellcheck shell=bash
# Sources the whole library; REPO, the checkout, is set by the script that sources this.

# shellcheck source=deploy/lib/common.sh
source "$REPO/deploy/lib/common.sh"
# shellcheck source=deploy/lib/packages.sh
source "$REPO/deploy/lib/packages.sh"
# shellcheck source=deploy/lib/ports.sh
source "$REPO/deploy/lib/ports.sh"
# shellcheck source=deploy/lib/process.sh
source "$REPO/deploy/lib/process.sh"
# shellcheck source=deploy/lib/postgres.sh
source "$REPO/deploy/lib/postgres.sh"
# shellcheck source=deploy/lib/rabbitmq.sh
source "$REPO/deploy/lib/rabbitmq.sh"
# shellcheck source=deploy/lib/borrowed.sh
source "$REPO/deploy/lib/borrowed.sh"
explain_surprises
