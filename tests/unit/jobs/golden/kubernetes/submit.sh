#!/bin/sh
# Written by `firesteel submit --target k8s --render`. The image needs Spark 4.3 and firesteel.
# Secrets: kubectl -n ml create secret generic firesteel-flight-delay-scores-secrets --from-file=mlflow.password=... --from-file=store.key=...
# The driver sets these from the secrets: spark.hadoop.demo.store
# Omitted from the Hadoop configuration because they look like secrets: fs.s3a.secret.key
set -eu
cd "$(dirname "$0")"
exec spark-submit \
  --master k8s://https://10.0.0.1:6443 \
  --deploy-mode cluster \
  --name firesteel-flight-delay-scores \
  --conf spark.driver.extraJavaOptions=-Dlog4j2.configurationFile=file:/etc/firesteel/log4j2.properties \
  --conf spark.dynamicAllocation.enabled=true \
  --conf spark.dynamicAllocation.initialExecutors=3 \
  --conf spark.dynamicAllocation.maxExecutors=40 \
  --conf spark.dynamicAllocation.minExecutors=1 \
  --conf spark.dynamicAllocation.shuffleTracking.enabled=true \
  --conf spark.executor.cores=4 \
  --conf spark.executor.memory=8g \
  --conf spark.executor.pyspark.memory=4g \
  --conf spark.executor.resource.gpu.amount=1 \
  --conf spark.executor.resource.gpu.vendor=nvidia.com \
  --conf spark.executorEnv.LC_MESSAGES=C \
  --conf spark.executorEnv.MLFLOW_DISABLE_TELEMETRY=true \
  --conf spark.executorEnv.PYTHONUTF8=1 \
  --conf spark.hadoop.dfs.client.retry.policy.enabled=true \
  --conf spark.hadoop.dfs.client.retry.policy.spec=2000,30,10000,6 \
  --conf spark.kubernetes.authenticate.driver.serviceAccountName=firesteel-flight-delay-scores \
  --conf spark.kubernetes.container.image=registry.example.org/firesteel:0.1.0 \
  --conf spark.kubernetes.driver.podTemplateFile=driver-pod.yaml \
  --conf spark.kubernetes.driver.request.cores=1 \
  --conf spark.kubernetes.executor.deleteOnTermination=true \
  --conf spark.kubernetes.executor.podTemplateFile=executor-pod.yaml \
  --conf spark.kubernetes.executor.request.cores=4 \
  --conf spark.kubernetes.hadoop.configMapName=firesteel-flight-delay-scores-hadoop \
  --conf spark.kubernetes.namespace=ml \
  --conf spark.sql.adaptive.enabled=true \
  --conf spark.sql.adaptive.optimizer.excludedRules=org.apache.spark.sql.execution.adaptive.AQEPropagateEmptyRelation \
  --conf spark.sql.ansi.enabled=true \
  --conf spark.sql.parquet.compression.codec=zstd \
  --conf spark.sql.session.timeZone=UTC \
  --conf spark.task.resource.gpu.amount=1 \
  --conf spark.ui.showConsoleProgress=false \
  local:///etc/firesteel/run_plan.py \
  --plan /etc/firesteel/plan.json
