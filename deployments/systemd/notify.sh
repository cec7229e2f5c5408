#!/bin/sh
# Sends `modic status` to MODIC_MAIL by sendmail and to MODIC_WEBHOOK as JSON; it holds keys and counts, no patient.
set -u
said=$("$MODIC" status "$MODIC_COHORT" 2>&1)
subject="modic: the night of $(basename "$MODIC_COHORT") went wrong"
sent=0
if [ -n "${MODIC_MAIL:-}" ]; then
  printf 'To: %s\nSubject: %s\nContent-Type: text/plain; charset=utf-8\n\n%s\n' "$MODIC_MAIL" "$subject" "$said" |
    "${MODIC_SENDMAIL:-/usr/sbin/sendmail}" -t || sent=1
fi
if [ -n "${MODIC_WEBHOOK:-}" ]; then
  SUBJECT="$subject" TEXT="$said" "$(dirname "$MODIC")/python" -P -c '
import json, os, urllib.request as web
content = json.dumps({"subject": os.environ["SUBJECT"], "text": os.environ["TEXT"]}).encode()
web.urlopen(web.Request(os.environ["MODIC_WEBHOOK"], content, {"Content-Type": "application/json"}), timeout=30)
' || sent=1
fi
exit $sent
